"""Cerebras: OpenAI's wire, with `time_info` beside an answer (passed on) and errors that are not wrapped."""

from __future__ import annotations

from backends.upstream.dialects.openai import OpenAI


class Cerebras(OpenAI):
    """Cerebras' cloud. Errors are `{"message", "type", "param", "code"}`, in a stream too."""


DIALECT = Cerebras
