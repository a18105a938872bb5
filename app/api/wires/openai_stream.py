"""An answer's events as the frames of one stream. No I/O.

What a real service sent is passed on as it came (`event.raw`); for everything else frames are made here.
"""

from __future__ import annotations

from app.api import openai_wire
from app.api.openai_wire import StreamFrames
from app.api.wires.base import Bill, Extra
from app.errors import ApiError
from backends.types import ChoiceEnd, Endpoint, Event, TokenChunk


class StreamWriter:
    """The last end of a choice is written late: it may carry the receipt, which is final only at the end."""

    def __init__(
        self, endpoint: Endpoint, response_id: str, created_s: int, model: str, *, include_usage: bool
    ) -> None:
        self._endpoint = endpoint
        self._model = model
        self._include_usage = include_usage
        self._frames = StreamFrames(endpoint, response_id, created_s, model, include_usage=include_usage)
        self._begun: set[int] = set()
        self._ended: ChoiceEnd | None = None
        self._relaying = False

    def begin(self) -> bytes:
        """Nothing: the first frame is the first choice's."""
        return b""

    def event(self, event: Event) -> bytes:
        """What to write now; may be nothing."""
        frame = self._finish()
        if event.raw is not None:
            if not self._relaying:
                self._relay(event.raw)
            if type(event) is ChoiceEnd:
                self._ended = event
                return frame
            return frame + event.raw
        frames, index = self._frames, event.index
        if index not in self._begun:
            self._begun.add(index)
            frame += frames.role(index)
        if type(event) is TokenChunk:
            frame += frames.piece(event)
        elif type(event) is ChoiceEnd:
            self._ended = event
        return frame

    def failed(self, error: ApiError) -> bytes:
        """The end of a stream that broke off: an error event, no [DONE]."""
        return self._finish() + openai_wire.stream_error(error.body())

    def end(self, bill: Bill, extra: Extra | None) -> bytes:
        """The end of a whole one; `extra` keys go into its last chunk."""
        if not self._include_usage:
            return self._finish(extra) + openai_wire.DONE
        return self._finish() + self._frames.usage(openai_wire.usage_block(*bill), extra) + openai_wire.DONE

    def _finish(self, extra: Extra | None = None) -> bytes:
        ended, self._ended = self._ended, None
        if ended is None:
            return b""
        if ended.raw is None:
            return self._frames.finish(ended.index, ended.reason, extra)
        if not extra:
            return ended.raw
        return openai_wire.with_extra(ended.raw, extra) if ended.raw else self._frames.aside(extra)

    def _relay(self, raw: bytes) -> None:
        """The frames made here are to look like those passed on."""
        self._relaying = True
        found = openai_wire.identity(raw)
        if found is not None:
            self._frames = StreamFrames(self._endpoint, *found, self._model, include_usage=self._include_usage)
