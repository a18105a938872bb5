"""Google's OpenAI-compatible endpoints: Vertex AI, which is how a TPU is reached, and the Gemini API.

`url` is the whole path that `/chat/completions` follows: `.../v1/projects/P/locations/L/endpoints/openapi` for Vertex
AI (models are called `google/...` or by their endpoint), `.../v1beta/openai` for Gemini. The key is an access token or
an API key, sent as a bearer token.

Errors come in a list of one, a stream's too, with Google's own word (`status`) and `details`: when to come back
(`RetryInfo`), which field is wrong (`BadRequest`), why (`ErrorInfo`). A key that is none and a place that is not served
are said with 400, like a client's fault, and are the operator's. Where `total_tokens` is more than prompt and
completion, what was thought is the rest or the part of it that is told: Gemini counts thinking apart from what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from backends.errors import BackendError, ContextExceeded, RequestRefused, Saturated, Unavailable
from backends.types import Endpoint, GenerationRequest
from backends.upstream.dialects.counts import count, listing, mapping
from backends.upstream.dialects.openai import Answers, Body, OpenAI
from backends.upstream.dialects.refusals import error_fields, retry_after_s, shown

_CONTEXT_WORDS = "exceeds the maximum number of tokens"
_OPERATORS = frozenset({"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "BILLING_DISABLED", "SERVICE_DISABLED"})


class Vertex(OpenAI):
    """Vertex AI and Gemini: chats and embeddings."""

    endpoints: ClassVar[frozenset[Endpoint]] = frozenset({"chat", "embedding"})

    lists_models: ClassVar[bool] = False

    def alive(self, status: int) -> bool:
        """Vertex AI has no list of models there: that somebody says so is enough."""
        return status in (200, 404, 405)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
        meant = super().refusal(status, headers, body, wall_s)
        fields = error_fields(body)
        details = [mapping(each) for each in listing(fields.get("details"))]
        word = fields.get("status")
        if isinstance(meant, Saturated):
            return Saturated(str(meant), retry_after_s(headers, wall_s, _retry_delay_s(details)), told=True)
        if not isinstance(meant, RequestRefused) or isinstance(meant, ContextExceeded):
            return meant
        if word == "FAILED_PRECONDITION" or any(each.get("reason") in _OPERATORS for each in details):
            return Unavailable(f"{self.service.name} refused the gateway's credentials or place with {status}")
        if _CONTEXT_WORDS in str(meant):
            return ContextExceeded(str(meant), "messages", "context_length_exceeded")
        field, key = _field(details), self.service.api_key
        param = meant.param if field is None else shown(field, key)
        code = shown(word, key) if isinstance(word, str) else meant.code
        return RequestRefused(str(meant), param, code, meant.status)

    def answers(self, request: GenerationRequest, upstream_model: str) -> VertexAnswers:
        return VertexAnswers(
            self.service.name, request, request.model, upstream_model, self.service.api_key, self.refusal
        )


class VertexAnswers(Answers):
    """Takes an error out of its list, and thoughts out of the total."""

    def decode(self, data: bytes) -> Body:
        listed = data.strip()
        if listed[:1] == b"[" and listed[-1:] == b"]":
            data = listed[1:-1]
        body = super().decode(data)
        if body.usage is not None:
            body.usage = _with_thoughts(body.usage)
        return body


DIALECT = Vertex


def _with_thoughts(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Google's counts as OpenAI has them: thoughts are a part of the completion."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    prompt, completion, total = (count(usage.get(name)) for name in names)
    if prompt is None or total is None or total <= prompt + (completion or 0):
        return dict(usage)
    rest = total - prompt - (completion or 0)
    told = count(mapping(usage.get("completion_tokens_details")).get("reasoning_tokens"))
    thought = rest if told is None else min(rest, told)
    details = {"reasoning_tokens": thought}
    return {**usage, "completion_tokens": (completion or 0) + thought, "completion_tokens_details": details}


def _retry_delay_s(details: Sequence[Mapping[str, Any]]) -> float:
    """`"34.07s"`; a second where nobody says."""
    for each in details:
        delay = each.get("retryDelay")
        if isinstance(delay, str) and delay.endswith("s"):
            return retry_after_s({"retry-after": delay[:-1]}, 0.0)
    return 1.0


def _field(details: Sequence[Mapping[str, Any]]) -> str | None:
    """The first that a BadRequest names."""
    for each in details:
        for violation in listing(each.get("fieldViolations")):
            if isinstance(field := mapping(violation).get("field"), str):
                return field
    return None
