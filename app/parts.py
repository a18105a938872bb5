"""An answer's events taken apart: text, reasoning, refusals and pieces of tool calls, whoever sent them how.

For wires that are not OpenAI's own, which cannot pass on what a service sent. What services call reasoning:
`reasoning_content` (vLLM, SGLang, DeepSeek) or `reasoning` (Groq, Cerebras, newer vLLM); a signature of it, which
Anthropic's clients send back, comes as `reasoning_signature` from our own dialect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from app.errors import UpstreamFailed
from backends.types import TokenChunk
from backends.upstream.sse import Decoder, data_of


class Text(NamedTuple):
    """A piece of the answer."""

    text: str


class Refusal(NamedTuple):
    """A piece of why there is no answer."""

    text: str


class Reasoning(NamedTuple):
    """A piece of what was thought before the answer; the signature comes once, after the text."""

    text: str
    signature: str = ""


class ToolPiece(NamedTuple):
    """A piece of a call's arguments; `call_id` and `name` are known from the first piece of the `place` on."""

    place: int
    call_id: str
    name: str
    arguments: str


Part = Text | Refusal | Reasoning | ToolPiece


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Said(msgspec.Struct):
    """A chunk's delta or an answer's message."""

    content: Any = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_signature: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] | None = None


_decode = msgspec.json.Decoder(_Body).decode


def parts(event: TokenChunk, *, stream: bool) -> list[Part]:
    """What a chunk of choice 0 holds; other choices are nobody's here. What a service sent that cannot be read is
    nothing: the dialect has already refused what is no chunk at all."""
    if event.index:
        return []
    if event.raw is None:
        if event.tool is not None:
            return [ToolPiece(event.tool.place, event.tool.call_id, event.tool.name, event.text)]
        if event.thought is not None:
            return [Reasoning(event.text, event.thought.signature)]
        return [Text(event.text)] if event.text else []
    bodies = map(data_of, Decoder(whole=True).feed(event.raw)) if stream else iter((event.raw,))
    return [part for body in bodies for part in _of_body(body)]


class Blocks:
    """Which block of an answer a part belongs to, for wires that write them one after the other.

    `place` counts them from 0 (-1: none yet); `called` says whether there was a call among them.
    """

    def __init__(self) -> None:
        self.place = -1
        self.called = False
        self._open: object = None
        self._tools_seen = -1

    def opens(self, part: Part) -> bool:
        """Whether a part begins a block of its own.

        Raises: UpstreamFailed for a piece of a call whose block is over: a block is written once.
        """
        key: object = type(part)
        if isinstance(part, ToolPiece):
            key = part.place
            if key != self._open and part.place <= self._tools_seen:
                raise UpstreamFailed("the backend went back to a tool call that had ended")
            self._tools_seen = max(self._tools_seen, part.place)
            self.called = True
        if key == self._open:
            return False
        self._open = key
        self.place += 1
        return True


def _of_body(body: bytes) -> Iterator[Part]:
    if not body:
        return
    try:
        choices = _decode(body).choices or []
    except msgspec.DecodeError:
        return
    for choice in choices:
        said = choice.delta or choice.message
        if said is not None and choice.index == 0:
            yield from _of_said(said)


def _of_said(said: _Said) -> Iterator[Part]:
    reasoning = said.reasoning_content or said.reasoning
    if reasoning or said.reasoning_signature:
        yield Reasoning(reasoning or "", said.reasoning_signature or "")
    if text := _text(said.content):
        yield Text(text)
    if said.refusal:
        yield Refusal(said.refusal)
    for place, call in enumerate(said.tool_calls or ()):
        function = call.function or _Function()
        # A whole answer's calls carry no index: their order is it.
        where = place if call.index is None else call.index
        yield ToolPiece(where, call.id or "", function.name or "", function.arguments or "")
    if said.function_call is not None:
        yield ToolPiece(0, "", said.function_call.name or "", said.function_call.arguments or "")


def _text(content: Any) -> str:
    """Content is text, or from some services a list of parts of it."""
    if isinstance(content, str):
        return content
    listed = content if isinstance(content, list) else []
    return "".join(str(part.get("text") or "") for part in listed if isinstance(part, Mapping))
