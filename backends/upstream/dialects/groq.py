"""Groq: OpenAI's wire, with usage and times of its own in `x_groq` of a stream's last chunk.

`x_groq.usage` counts where no usage came otherwise. The times beside the counts, of queue, prompt and completion, are
measured by, and passed on in a stream's `x_groq` and the `usage` of a whole answer. It has chats alone, one choice each
and no log-probabilities (console.groq.com/docs/openai).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from backends.base import ServiceTimes
from backends.errors import BackendError, Saturated
from backends.types import Capability, Endpoint, GenerationRequest
from backends.upstream.dialects.counts import service_times
from backends.upstream.dialects.openai import Answers, Body, OpenAI
from backends.upstream.dialects.refusals import error_fields, retry_after_s

TOO_LARGE, CAPACITY_EXCEEDED = 413, 498


class Groq(OpenAI):
    """Groq's cloud, at https://api.groq.com/openai/v1."""

    endpoints: ClassVar[frozenset[Endpoint]] = frozenset({"chat"})
    lacks: ClassVar[frozenset[Capability]] = frozenset({"n", "logprobs", "embeddings"})

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
        """498 is a full flex tier: a queue like any other. 413 may be a request of more tokens than the operator has a
        minute: waiting does not help, but another backend may take it."""
        meant = super().refusal(429 if status == CAPACITY_EXCEEDED else status, headers, body, wall_s)
        if status == TOO_LARGE and error_fields(body).get("code") == "rate_limit_exceeded":
            return Saturated(str(meant), retry_after_s(headers, wall_s))
        return meant

    def answers(self, request: GenerationRequest, upstream_model: str) -> GroqAnswers:
        return GroqAnswers(
            self.service.name, request, request.model, upstream_model, self.service.api_key, self.refusal
        )


class GroqAnswers(Answers):
    """Reads `x_groq` too."""

    @staticmethod
    def told_usage(body: Body) -> dict[str, Any] | None:
        if body.usage is not None:
            return body.usage
        own = (body.x_groq or {}).get("usage")
        return own if isinstance(own, dict) else None

    @staticmethod
    def told_times(body: Body) -> ServiceTimes | None:
        told = GroqAnswers.told_usage(body)
        return None if told is None else service_times(told)

    def told_error(self, body: Body) -> Any:
        """A stream that fails says so in its last chunk."""
        return super().told_error(body) or (body.x_groq or {}).get("error")


DIALECT = Groq
