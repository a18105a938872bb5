"""Groq: OpenAI's wire below `/openai/v1`, with usage and times of its own in `x_groq` of a stream's last chunk.

`x_groq.usage` counts where no usage came otherwise. A stream's `x_groq` is passed on, times of queue, prompt and
completion included; those in `usage` are not: that is written here.
"""

from __future__ import annotations

from typing import Any, ClassVar

from backends.types import GenerationRequest
from backends.upstream.dialects.openai import Answers, Body, OpenAI


class Groq(OpenAI):
    """Groq's cloud."""

    root: ClassVar[str] = "/openai/v1"

    def answers(self, request: GenerationRequest, upstream_model: str) -> GroqAnswers:
        return GroqAnswers(self.service.name, request, request.model, upstream_model, self.service.api_key)


class GroqAnswers(Answers):
    """Reads `x_groq` too."""

    @staticmethod
    def told_usage(body: Body) -> dict[str, Any] | None:
        if body.usage is not None:
            return body.usage
        own = (body.x_groq or {}).get("usage")
        return own if isinstance(own, dict) else None

    def told_error(self, body: Body) -> Any:
        """A stream that fails says so in its last chunk."""
        return super().told_error(body) or (body.x_groq or {}).get("error")


DIALECT = Groq
