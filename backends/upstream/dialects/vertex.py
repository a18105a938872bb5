"""Google's OpenAI-compatible endpoints: Vertex AI, which is how a TPU is reached, and the Gemini API.

`url` is the whole path that `/chat/completions` follows: `.../v1/projects/P/locations/L/endpoints/openapi` for Vertex
AI (models are called `google/...` or by their endpoint), `.../v1beta/openai` for Gemini. The key is an access token or
an API key, sent as a bearer token. Errors come in a list of one, a stream's too.
"""

from __future__ import annotations

from typing import ClassVar

from backends.types import GenerationRequest
from backends.upstream.dialects.openai import Answers, Body, OpenAI


class Vertex(OpenAI):
    """Vertex AI and Gemini."""

    lists_models: ClassVar[bool] = False

    def alive(self, status: int) -> bool:
        """Vertex AI has no list of models there: that somebody says so is enough."""
        return status in (200, 404, 405)

    def answers(self, request: GenerationRequest, upstream_model: str) -> VertexAnswers:
        return VertexAnswers(self.service.name, request, request.model, upstream_model, self.service.api_key)


class VertexAnswers(Answers):
    """Takes an error out of its list."""

    def decode(self, data: bytes) -> Body:
        listed = data.strip()
        if listed[:1] == b"[" and listed[-1:] == b"]":
            data = listed[1:-1]
        return super().decode(data)


DIALECT = Vertex
