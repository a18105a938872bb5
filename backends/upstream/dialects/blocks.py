"""What answers in blocks have in common, whoever frames them how: text, thoughts and calls as events. Pure."""

from __future__ import annotations

from typing import Any

from backends.base import ServiceTimes
from backends.types import Event, GenerationRequest, Thought, TokenChunk, ToolCallPart, Usage
from backends.upstream.dialects.counts import CHARACTERS_PER_TOKEN


class Blocks:
    """One answer of one choice; `ended` once the service has said why it stopped."""

    def __init__(self, request: GenerationRequest) -> None:
        self.sent = False
        self.begun = False
        self.done = False
        self.times: ServiceTimes | None = None
        self.ended = False
        self.said = 0
        self._request = request
        self._tool: ToolCallPart | None = None
        self._calls = 0

    def estimated(self) -> Usage:
        """What it took where the service did not say. A prompt that was sent is read, whatever comes back."""
        if not self.sent:
            return Usage()
        return Usage(self.prompt_tokens(), 0, self.said, 0, estimated=True)

    def prompt_tokens(self) -> int:
        """By its characters."""
        return max(1, sum(map(len, self._request.prompts)) // CHARACTERS_PER_TOKEN)

    def text(self, text: Any) -> list[Event]:
        """A piece of the answer."""
        return [self._chunk(text)] if isinstance(text, str) and text else []

    def thought(self, text: Any, signature: Any = None) -> list[Event]:
        """A piece of what was thought before it, and its signature, which comes last."""
        listed: list[Event] = []
        if isinstance(text, str) and text:
            listed.append(self._chunk(text, thought=Thought()))
        if isinstance(signature, str) and signature:
            listed.append(self._chunk("", thought=Thought(signature)))
        return listed

    def call(self, call_id: Any, name: Any) -> list[Event]:
        """A call begins."""
        self._tool = ToolCallPart(self._calls, str(call_id or ""), str(name or ""))
        self._calls += 1
        return [self._chunk("", tool=self._tool)]

    def arguments(self, text: Any) -> list[Event]:
        """A piece of the arguments of the call that began last."""
        if self._tool is None or not isinstance(text, str) or not text:
            return []
        return [self._chunk(text, tool=self._tool)]

    def _chunk(self, text: str, tool: ToolCallPart | None = None, thought: Thought | None = None) -> TokenChunk:
        self.begun = True
        # A piece holds several tokens, and what breaks off is billed by this.
        self.said += max(1, len(text) // CHARACTERS_PER_TOKEN) if text else 0
        return TokenChunk(0, text, 1, None, tool is None and thought is None, tool, thought)
