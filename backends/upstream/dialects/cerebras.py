"""Cerebras: OpenAI's wire, with `time_info` beside an answer (passed on) and errors that are not wrapped."""

from __future__ import annotations

from collections.abc import Mapping

from backends.errors import BackendError, Saturated
from backends.upstream.dialects.openai import OpenAI
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


DIALECT = Cerebras
