"""Identifiers: a random prefix per process and a counter, a tenth of the price of a UUID each."""

from __future__ import annotations

import secrets
from itertools import count

from backends.types import Endpoint


class Ids:
    """Unique within a process by counting, between processes by 48 random bits."""

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = prefix or secrets.token_hex(6)
        self._requests = count(1)
        self._responses = count(1)

    def request(self) -> str:
        """For `x-request-id` when the client sent none."""
        return f"req-{self.prefix}-{next(self._requests):x}"

    def response(self, endpoint: Endpoint) -> str:
        """For the body's `id`, in OpenAI's style."""
        kind = "chatcmpl" if endpoint == "chat" else "cmpl"
        return f"{kind}-{self.answer()}"

    def answer(self) -> str:
        """What tells one answer from another, without the prefix that says what kind it is."""
        return f"{self.prefix}{next(self._responses):x}"
