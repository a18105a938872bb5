"""Azure AI: OpenAI's wire behind deployments, which is how Maia is reached.

    url without a path, api_version given    {url}/openai/deployments/{upstream_model}/chat/completions?api-version=...
    url without a path, no api_version       {url}/openai/v1/chat/completions
    url with a path                          {url}/chat/completions, and the api-version if there is one (/models, say)

The key goes into `api-key`. What filters found (`prompt_filter_results`, `content_filter_results`) is passed on; a
prompt that they refuse is a 400 with the code `content_filter`, and its words end with what was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

from backends.errors import BackendError, RequestRefused
from backends.types import Endpoint
from backends.upstream.dialects.base import Outgoing, Service, rooted
from backends.upstream.dialects.counts import mapping
from backends.upstream.dialects.openai import PATHS, OpenAI
from backends.upstream.dialects.refusals import error_fields, shown

FILTERED = "content_filter"


class Azure(OpenAI):
    """Azure OpenAI and Azure AI Foundry."""

    versioned: ClassVar[bool] = True
    lists_models: ClassVar[bool] = False

    def __init__(self, service: Service) -> None:
        self.service = service
        self._query = "" if service.api_version is None else f"?api-version={quote(service.api_version)}"
        self._by_deployment = service.api_version is not None and rooted(service.url, "/") != service.url
        self.url = rooted(service.url, "/openai" if self._by_deployment else "/openai/v1")

    def path(self, endpoint: Endpoint, upstream_model: str) -> str:
        deployment = f"/deployments/{quote(upstream_model, safe='')}" if self._by_deployment else ""
        return self.url + deployment + PATHS[endpoint] + self._query

    def authorization(self) -> dict[str, str]:
        return {} if self.service.api_key is None else {"api-key": self.service.api_key}

    def ping(self, wall_s: float) -> Outgoing:
        """The list of models, which the way by deployments has one level up."""
        return Outgoing("GET", f"{self.url}/models{self._query}", self.authorization())

    def alive(self, status: int) -> bool:
        """Below a path of one's own there may be no list of models: that somebody says so is enough."""
        return status in (200, 404)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
        meant = super().refusal(status, headers, body, wall_s)
        if not isinstance(meant, RequestRefused) or meant.code != FILTERED:
            return meant
        results = mapping(mapping(error_fields(body).get("innererror")).get("content_filter_result"))
        found = sorted(name for name, each in results.items() if mapping(each).get("filtered") is True)
        text = f"{meant} (filtered: {shown(', '.join(found), self.service.api_key)})" if found else str(meant)
        return RequestRefused(text, meant.param, FILTERED, meant.status)


DIALECT = Azure
