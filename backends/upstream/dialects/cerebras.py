"""Cerebras: OpenAI's wire, with `time_info` beside an answer (measured, and passed on) and errors not wrapped."""

from __future__ import annotations

from collections.abc import Mapping

from backends.base import ServiceTimes
from backends.errors import BackendError, Saturated
from backends.types import GenerationRequest
from backends.upstream.dialects.counts import service_times
from backends.upstream.dialects.openai import Answers, Body, OpenAI
from backends.upstream.dialects.refusals import retry_after_s

REMAINING, RESET = "x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"


class Cerebras(OpenAI):
    """Cerebras' cloud. Errors are `{"message", "type", "param", "code"}`, in a stream too."""

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
        """A 429 need not say when to come back: then it is when the minute's tokens do, if those are what ran out."""
        meant = super().refusal(status, headers, body, wall_s)
        if not isinstance(meant, Saturated) or headers.get(REMAINING) != "0":
            return meant
        reset_s = retry_after_s({"retry-after": headers.get(RESET, "")}, wall_s)
        return Saturated(str(meant), retry_after_s(headers, wall_s, reset_s), told=True)

    def answers(self, request: GenerationRequest, upstream_model: str) -> CerebrasAnswers:
        return CerebrasAnswers(
            self.service.name, request, request.model, upstream_model, self.service.api_key, self.refusal
        )


class CerebrasAnswers(Answers):
    """Reads `time_info` too."""

    @staticmethod
    def told_times(body: Body) -> ServiceTimes | None:
        return None if body.time_info is None else service_times(body.time_info)


DIALECT = Cerebras
