"""OpenAI's Responses as answers: the items of a response, and its stream's numbered events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.api import openai_wire
from app.api.wires.base import Bill, Extra, Opening
from app.errors import ApiError
from app.parts import Blocks, Part, Reasoning, Refusal, ToolPiece, parts
from backends.types import ChoiceEnd, Event, FinishReason, TokenChunk

INCOMPLETE: Mapping[FinishReason, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "user": None,
}
"""What a response repeats of its request, and what it says where that was silent."""

_encode = msgspec.json.Encoder().encode


class _Items:
    """The items of a response so far: their own text is added when an item is over."""

    def __init__(self, opening: Opening) -> None:
        self.blocks = Blocks()
        self.listed: list[dict[str, Any]] = []
        self._identifier = opening.identifier
        self._pieces: list[str] = []
        self.reason: FinishReason = "stop"

    def takes(self, part: Part) -> bool:
        """Whether the part begins an item; the one before is then over, and `close` is to be called first."""
        return self.blocks.opens(part)

    def open(self, part: Part) -> dict[str, Any]:
        item = _item(part, f"{self._identifier}_{self.blocks.place}")
        self.listed.append(item)
        self._pieces = []
        return item

    def add(self, part: Part) -> str:
        piece = part.arguments if isinstance(part, ToolPiece) else part.text
        self._pieces.append(piece)
        return piece

    def close(self) -> str:
        """The last item's whole text, which it now has."""
        text, item = "".join(self._pieces), self.listed[-1]
        # Only the last item of an answer can be cut, and its reason is known before it is closed.
        item["status"] = "incomplete" if self.reason in INCOMPLETE else "completed"
        if item["type"] == "function_call":
            item["arguments"] = text
        elif item["content"]:
            part = item["content"][0]
            part["refusal" if part["type"] == "refusal" else "text"] = text
        return text


class StreamWriter:
    """The events of one response."""

    def __init__(self, opening: Opening, request: Mapping[str, Any]) -> None:
        self._opening = opening
        self._request = request
        self._items = _Items(opening)
        self._number = 0

    def begin(self) -> bytes:
        response = self._response("in_progress")
        return self._frame("response.created", response=response) + self._frame(
            "response.in_progress", response=response
        )

    def event(self, event: Event) -> bytes:
        if type(event) is ChoiceEnd:
            self._items.reason = event.reason
            return b""
        assert type(event) is TokenChunk
        return b"".join(self._part(part) for part in parts(event, stream=True))

    def failed(self, error: ApiError) -> bytes:
        if self._items.listed:
            self._items.close()
            self._items.listed[-1]["status"] = "incomplete"
        said = {"code": "server_error", "message": error.message}
        response = {**self._response("failed"), "error": said}
        return self._frame("response.failed", response=response) + self._frame(
            "error", code=error.error_code, message=error.message, param=error.param
        )

    def end(self, bill: Bill, extra: Extra | None) -> bytes:
        frames = self._close()
        response = _ended(self._response("completed"), self._items, bill, extra)
        return frames + self._frame(f"response.{response['status']}", response=response)

    def _part(self, part: Part) -> bytes:
        frames = b""
        if self._items.takes(part):
            frames = self._close() + self._open(part)
        piece = self._items.add(part)
        if not piece:
            return frames
        return frames + self._frame(f"{_kind(part)}.delta", **self._where(part), delta=piece, **_logprobs(part))

    def _open(self, part: Part) -> bytes:
        item = self._items.open(part)
        place = self._items.blocks.place
        self._current = part
        if isinstance(part, ToolPiece):
            return self._frame("response.output_item.added", output_index=place, item=item)
        # An item appears without content, which comes with an event of its own.
        frame = self._frame("response.output_item.added", output_index=place, item={**item, "content": []})
        return frame + self._frame("response.content_part.added", **self._where(part), part=item["content"][0])

    def _close(self) -> bytes:
        if not self._items.listed:
            return b""
        part, item = self._current, self._items.listed[-1]
        where, text = self._where(part), self._items.close()
        frames = self._frame(f"{_kind(part)}.done", **where, **{_text_key(part): text}, **_logprobs(part))
        if not isinstance(part, ToolPiece):
            frames += self._frame("response.content_part.done", **where, part=item["content"][0])
        return frames + self._frame("response.output_item.done", output_index=where["output_index"], item=item)

    def _where(self, part: Part) -> dict[str, Any]:
        place = len(self._items.listed) - 1
        where = {"item_id": self._items.listed[place]["id"], "output_index": place}
        return where if isinstance(part, ToolPiece) else {**where, "content_index": 0}

    def _response(self, status: str) -> dict[str, Any]:
        return _response(self._opening, self._request, status, self._items.listed)

    def _frame(self, kind: str, **fields: Any) -> bytes:
        body = _encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)


class WholeWriter:
    """A response in one piece."""

    def __init__(self, opening: Opening, request: Mapping[str, Any]) -> None:
        self._opening = opening
        self._request = request
        self._items = _Items(opening)

    def begin(self) -> bytes:
        return b""

    def event(self, event: Event) -> bytes:
        if type(event) is ChoiceEnd:
            self._items.reason = event.reason
        elif type(event) is TokenChunk:
            for part in parts(event, stream=False):
                if self._items.takes(part):
                    self._close()
                    self._items.open(part)
                self._items.add(part)
        return b""

    def failed(self, error: ApiError) -> bytes:
        return _encode(error.body())

    def end(self, bill: Bill, extra: Extra | None) -> bytes:
        self._close()
        response = _response(self._opening, self._request, "completed", self._items.listed)
        return _encode(_ended(response, self._items, bill, extra))

    def _close(self) -> None:
        if self._items.listed:
            self._items.close()


def usage_block(bill: Bill) -> dict[str, Any]:
    """Tokens as Responses count them; and what it cost."""
    ours = openai_wire.usage_block(*bill)
    return {
        "input_tokens": ours["prompt_tokens"],
        "input_tokens_details": {**ours["prompt_tokens_details"], "cache_write_tokens": 0},
        "output_tokens": ours["completion_tokens"],
        "output_tokens_details": ours["completion_tokens_details"],
        "total_tokens": ours["total_tokens"],
        **{name: ours[name] for name in ("cost", "cost_details", "energy_estimate_j")},
    }


def _response(opening: Opening, request: Mapping[str, Any], status: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    repeated = {name: unsaid if request.get(name) is None else request[name] for name, unsaid in ECHOED.items()}
    return {
        "id": f"resp_{opening.identifier}",
        "object": "response",
        "created_at": opening.created_s,
        "status": status,
        "model": opening.model,
        "output": items,
        "error": None,
        "incomplete_details": None,
        "previous_response_id": None,
        "store": False,
        "background": False,
        "truncation": "disabled",
        "usage": None,
        **repeated,
    }


def _ended(response: dict[str, Any], items: _Items, bill: Bill, extra: Extra | None) -> dict[str, Any]:
    response["usage"] = usage_block(bill)
    if (why := INCOMPLETE.get(items.reason)) is not None:
        response["status"] = "incomplete"
        response["incomplete_details"] = {"reason": why}
    return {**response, **(extra or {})}


def _item(part: Part, name: str) -> dict[str, Any]:
    if isinstance(part, ToolPiece):
        call = {"call_id": part.call_id or f"call_{name}", "name": part.name, "arguments": ""}
        return {"type": "function_call", "id": f"fc_{name}", "status": "in_progress", **call}
    if isinstance(part, Reasoning):
        content: list[dict[str, Any]] = [{"type": "reasoning_text", "text": ""}]
        return {"type": "reasoning", "id": f"rs_{name}", "status": "in_progress", "summary": [], "content": content}
    said: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    if isinstance(part, Refusal):
        said = {"type": "refusal", "refusal": ""}
    return {"type": "message", "id": f"msg_{name}", "status": "in_progress", "role": "assistant", "content": [said]}


def _kind(part: Part) -> str:
    if isinstance(part, ToolPiece):
        return "response.function_call_arguments"
    if isinstance(part, Reasoning):
        return "response.reasoning_text"
    return "response.refusal" if isinstance(part, Refusal) else "response.output_text"


def _text_key(part: Part) -> str:
    if isinstance(part, ToolPiece):
        return "arguments"
    return "refusal" if isinstance(part, Refusal) else "text"


def _logprobs(part: Part) -> dict[str, Any]:
    return {} if isinstance(part, ToolPiece | Reasoning | Refusal) else {"logprobs": []}
