"""What the cache keeps of an answer, taken from its events, and events made of what it kept. No I/O.

Kept are text, reasoning and tool calls, each whole. An answer that holds more (log-probabilities, refusals, sounds, a
field that nobody here knows) could not be given again as it was, so it is not kept; nor is one that did not come to
its end: broken off, filtered, cut by a limit that its request did not name, or calling tools with what is no JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from app.cache.base import CachedCall, CachedChoice
from app.parts import Reasoning, Text, ToolPiece, parts
from backends.types import ChoiceEnd, Event, FinishReason, Thought, TokenChunk, ToolCallPart
from backends.upstream.sse import Decoder, data_of

REPEATABLE = frozenset({"stop", "length", "tool_calls"})
_SAID = frozenset("role content reasoning_content reasoning reasoning_signature tool_calls".split())
_decode = msgspec.json.Decoder().decode


class Recorder:
    """Listens to the events of one answer. `whole` tells whether all of it so far can be given again."""

    def __init__(self, choices: int, *, stream: bool, own_limit: bool) -> None:
        """`own_limit`: the request itself named how long its answer may be."""
        self.whole = True
        self._stream = stream
        self._own_limit = own_limit
        self._choices = [_Choice() for _ in range(choices)]

    def hear(self, event: Event) -> None:
        """The next event."""
        if not self.whole:
            return
        if type(event) is TokenChunk:
            self.whole = self._chunk(event)
        elif type(event) is ChoiceEnd:
            choice = self._choices[event.index]
            choice.reason, choice.stop = event.reason, event.stop
            cut = event.reason == "length" and not self._own_limit
            self.whole = event.reason in REPEATABLE and not cut and choice.calls_are_json()

    def choices(self) -> tuple[CachedChoice, ...]:
        """What was said, once it has ended."""
        return tuple(choice.cached() for choice in self._choices)

    def _chunk(self, event: TokenChunk) -> bool:
        choice = self._choices[event.index]
        if event.plain:
            choice.texts.append(event.text)
            return True
        if event.raw is None:
            return choice.add(event.text, event.tool, event.thought)
        # What a service sent may be about several choices: then whose part is whose is not told.
        if len(self._choices) > 1 or not _readable(event.raw, stream=self._stream):
            return False
        return all(choice.part(part) for part in parts(event, stream=self._stream))


def events_of(choices: tuple[CachedChoice, ...]) -> Iterator[Event]:
    """A cached answer, choice by choice: what was thought, what was said, the calls, the end."""
    for index, choice in enumerate(choices):
        if choice.reasoning:
            yield TokenChunk(index, choice.reasoning, 0, plain=False, thought=Thought())
        if choice.signature:
            yield TokenChunk(index, "", 0, plain=False, thought=Thought(choice.signature))
        if choice.text:
            yield TokenChunk(index, choice.text, 0)
        for place, call in enumerate(choice.calls):
            yield TokenChunk(index, call.arguments, 0, plain=False, tool=ToolCallPart(place, call.call_id, call.name))
        yield ChoiceEnd(index, choice.finish_reason, stop=choice.stop)


class _Choice:
    """One choice as it comes."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.signature = ""
        self.calls: dict[int, tuple[str, str, list[str]]] = {}
        self.reason: FinishReason = "stop"
        self.stop: str | None = None

    def add(self, text: str, tool: ToolCallPart | None, thought: Thought | None) -> bool:
        if tool is not None:
            return self.part(ToolPiece(tool.place, tool.call_id, tool.name, text))
        if thought is not None:
            return self.part(Reasoning(text, thought.signature))
        return False

    def part(self, part: Any) -> bool:
        if type(part) is Text:
            self.texts.append(part.text)
        elif type(part) is Reasoning:
            self.thoughts.append(part.text)
            self.signature += part.signature
        elif type(part) is ToolPiece:
            self.calls.setdefault(part.place, (part.call_id, part.name, []))[2].append(part.arguments)
        else:
            return False
        return True

    def calls_are_json(self) -> bool:
        try:
            return all(type(_decode("".join(pieces) or "{}")) is dict for _, _, pieces in self.calls.values())
        except (msgspec.DecodeError, RecursionError):
            return False

    def cached(self) -> CachedChoice:
        calls = tuple(CachedCall(key, name, "".join(pieces)) for key, name, pieces in self.calls.values())
        return CachedChoice("".join(self.texts), self.reason, self.stop, calls, "".join(self.thoughts), self.signature)


def _readable(raw: bytes, *, stream: bool) -> bool:
    """Whether what a service sent holds nothing but what `parts` reads."""
    bodies = [data_of(event) for event in Decoder(whole=True).feed(raw)] if stream else [raw]
    try:
        return all(_plain_body(_decode(body)) for body in bodies if body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _plain_body(body: Any) -> bool:
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or (not choices and "data" in body):
        return False
    return all(_plain_choice(choice) for choice in choices)


def _plain_choice(choice: Any) -> bool:
    if not isinstance(choice, dict) or choice.get("logprobs"):
        return False
    said = choice.get("delta") or choice.get("message") or {}
    if not isinstance(said, dict) or not isinstance(said.get("content"), str | None):
        return False
    return not {name for name, value in said.items() if value} - _SAID
