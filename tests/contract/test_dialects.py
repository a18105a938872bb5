"""Every dialect there is, against the shapes of its service.

A shape (shapes/<dialect>.json) is written after the service's public reference, named in it: what is asked, what must
go out, what comes back as a stream and in one piece, and what that means.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from backends import errors, registry
from backends.base import ServiceTimes
from backends.errors import BackendError, StreamCut
from backends.types import ChoiceEnd, Event, GenerationRequest, TokenChunk, Usage
from backends.upstream import dialects
from backends.upstream.dialects.base import Answers, Aws, Dialect, Service
from tests.frames import framed, message

FOLDER = Path(__file__).parent / "shapes"
NAMES = dialects.names()
SHAPES: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
ERRORS = [
    pytest.param(name, place, id=f"{name}-{error['status']}-{place}")
    for name in NAMES
    for place, error in enumerate(SHAPES[name]["errors"])
]
WALL_S = 1_700_000_000.0


def dialect_of(name: str) -> Dialect:
    said = dict(SHAPES[name]["service"])
    if "aws" in said:
        said["aws"] = Aws(*said["aws"])
    return dialects.named(name)(Service("up", **said))


def request_of(name: str, **fields: Any) -> GenerationRequest:
    body = SHAPES[name]["request"] | fields
    return GenerationRequest(
        "r-1",
        "chat",
        "public",
        ("be brief\nhi",),
        max_tokens=9,
        stream=bool(body.get("stream")),
        body=json.dumps(body).encode(),
    )


def said(events: list[Event]) -> tuple[str, list[ChoiceEnd]]:
    text = "".join(event.text for event in events if isinstance(event, TokenChunk))
    return text, [event for event in events if isinstance(event, ChoiceEnd)]


def streamed(name: str, listed: list[Any], pieces: int = 1) -> tuple[Answers, list[Event]]:
    """The events of a stream that comes in so many pieces."""
    dialect = dialect_of(name)
    answers, frames = dialect.answers(request_of(name), "up"), dialect.frames()
    answers.sent = True
    stream = framed(name, listed)
    size = max(1, len(stream) // pieces)
    events: list[Event] = []
    for start in range(0, len(stream), size):
        for frame in frames.feed(stream[start : start + size]):
            if not answers.done:
                events += answers.chunk(frame)
    answers.end()
    return answers, events


def test_every_dialect_has_a_shape_and_a_substrate_that_speaks_it() -> None:
    assert set(SHAPES) == set(NAMES)
    assert {name for kind in registry.kinds() for name in registry.dialects(kind)} == set(NAMES)
    assert all(registry.dialects(kind) for kind in registry.kinds())


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_out(name: str) -> None:
    wire = SHAPES[name]["wire"]
    sent = dialect_of(name).outgoing(request_of(name), "up", WALL_S)
    assert (sent.method, sent.url) == ("POST", wire["url"])
    assert {key: sent.headers.get(key) for key in wire["headers"]} == wire["headers"]
    assert not set(wire.get("absent", ())) & set(sent.headers)
    assert json.loads(sent.body) == wire["body"]
    if "signed" in wire:
        authorization = sent.headers["authorization"]
        assert re.fullmatch(
            rf"AWS4-HMAC-SHA256 Credential=AKID/\d{{8}}/{wire['signed']}, "
            r"SignedHeaders=accept;content-type;host;x-amz-date, Signature=[0-9a-f]{64}",
            authorization,
        )


TOLD = {
    "groq": ServiceTimes(0.05, 0.001, 0.01, 0.011),
    "cerebras": ServiceTimes(0.0002, 0.001, 0.003, 0.02),
    "bedrock": ServiceTimes(total_s=0.3),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_service_tells_of_its_own_time(name: str) -> None:
    assert streamed(name, SHAPES[name]["stream"])[0].times == TOLD.get(name)
    answers = dialect_of(name).answers(request_of(name, stream=False), "up")
    assert answers.times is None
    answers.whole(json.dumps(SHAPES[name]["whole"]).encode())
    assert answers.times == TOLD.get(name)


@pytest.mark.parametrize("name", NAMES)
def test_how_it_is_pinged(name: str) -> None:
    ping = SHAPES[name]["ping"]
    sent = dialect_of(name).ping(WALL_S)
    assert (sent.method, sent.url, sent.body) == ("GET", ping["url"], b"")
    assert {key: sent.headers.get(key) for key in ping["headers"]} == ping["headers"]
    assert dialect_of(name).alive(200)
    assert not any(dialect_of(name).alive(status) for status in (401, 403, 500, 503))


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
@pytest.mark.parametrize("name", NAMES)
def test_a_stream(name: str, pieces: int) -> None:
    shape = SHAPES[name]
    answers, events = streamed(name, shape["stream"], pieces)
    text, ends = said(events)
    assert (text, [end.reason for end in ends]) == (shape["expected"]["text"], [shape["expected"]["reason"]])
    assert answers.usage() == Usage(*shape["expected"]["usage"])
    assert answers.done
    raw = b"".join(event.raw or b"" for event in events).decode()
    for field in shape.get("passed_on", ()):
        assert f'"{field}"' in raw
    for frame in raw.split("\n\n")[:1] if raw else ():
        assert json.loads(frame.removeprefix("data: "))["id"], "the id of all chunks, ours too"


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_in_one_piece(name: str) -> None:
    shape = SHAPES[name]
    answers = dialect_of(name).answers(request_of(name, stream=False), "up")
    answers.sent = True
    text, ends = said(answers.whole(json.dumps(shape["whole"]).encode()))
    assert (text, [end.reason for end in ends]) == (shape["expected"]["text"], [shape["expected"]["reason"]])
    assert answers.usage() == Usage(*shape["expected"]["usage"])


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_without_its_end_is_cut_wherever_it_breaks_off(name: str) -> None:
    listed = SHAPES[name]["stream"]
    last = next(place for place in reversed(range(len(listed))) if "stop" in json.dumps(listed[place]))
    ended = next(place for place in range(len(listed)) if _ends(listed[place]))
    for length in range(min(ended, last) + 1):
        with pytest.raises(BackendError):
            streamed(name, listed[:length])


def _ends(frame: Any) -> bool:
    text = json.dumps(frame)
    return '"finish_reason": "stop"' in text or '"stop_reason": "end_turn"' in text or '"stopReason"' in text


@pytest.mark.parametrize("name", [name for name in NAMES if "failing_stream" in SHAPES[name]])
def test_an_error_midway_is_a_cut_and_before_anything_a_refusal(name: str) -> None:
    failing = SHAPES[name]["failing_stream"]
    with pytest.raises(StreamCut):
        streamed(name, failing)
    with pytest.raises(BackendError) as raised:
        streamed(name, failing[-1:])
    assert not isinstance(raised.value, StreamCut)


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"completion_tokens": 5, "total_tokens": 12}, Usage(7, 0, 5)),
        ({"completion_tokens": 5, "total_tokens": 32}, Usage(7, 0, 5, 20)),
        ({"completion_tokens": 0, "total_tokens": 67, "completion_tokens_details": {"reasoning_tokens": 60}},
         Usage(7, 0, 0, 60)),
        ({"completion_tokens": 25, "total_tokens": 32, "completion_tokens_details": {"reasoning_tokens": 20}},
         Usage(7, 0, 5, 20)),
        # More than was thought: tokens of tools, which nobody generated.
        ({"completion_tokens": 5, "total_tokens": 42, "completion_tokens_details": {"reasoning_tokens": 20}},
         Usage(7, 0, 5, 20)),
        ({"total_tokens": 27}, Usage(7, 0, 0, 20)),
    ],
)  # fmt: skip
def test_what_gemini_thought_is_found_in_the_total(told: dict[str, Any], usage: Usage) -> None:
    answers = dialect_of("vertex").answers(request_of("vertex", stream=False), "up")
    answers.whole(json.dumps({**SHAPES["vertex"]["whole"], "usage": {"prompt_tokens": 7, **told}}).encode())
    assert answers.usage() == usage


@pytest.mark.parametrize("before", [0, 3])
def test_an_exception_among_sagemakers_pieces_comes_behind_what_was_said(before: int) -> None:
    """Read in one piece, all of it."""
    failing = message({":message-type": "exception", ":exception-type": "ModelStreamError"}, b'{"Message":"out"}')
    stream = framed("sagemaker", SHAPES["sagemaker"]["stream"][:before]) + failing
    dialect = dialect_of("sagemaker")
    answers = dialect.answers(request_of("sagemaker"), "up")
    *said_frames, last = dialect.frames().feed(stream)
    events = [event for frame in said_frames for event in answers.chunk(frame)]
    assert bool(said(events)[0]) == bool(before)
    with pytest.raises(StreamCut if before else errors.Unavailable, match="ModelStreamError"):
        answers.chunk(last)


@pytest.mark.parametrize(("name", "place"), ERRORS)
def test_what_an_error_means(name: str, place: int) -> None:
    shape = SHAPES[name]["errors"][place]
    body = shape["text"].encode() if "text" in shape else json.dumps(shape["body"]).encode()
    meant = dialect_of(name).refusal(shape["status"], shape.get("headers", {}), body, WALL_S)
    assert type(meant) is getattr(errors, shape["is"])
    assert str(meant).startswith("up")
    assert "sk-secret" not in str(meant)
    assert shape.get("says", "") in str(meant)
    for field in ("param", "code", "retry_after_s"):
        if field in shape:
            assert getattr(meant, field) == shape[field]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nonsense", [b"", b"<html>", b"[]", b"null", b"7", b'{"choices": 5}', b"\xff", b"[" * 5000])
def test_nonsense_is_an_error_of_ours(name: str, nonsense: bytes) -> None:
    answers = dialect_of(name).answers(request_of(name, stream=False), "up")
    with pytest.raises(BackendError):
        answers.whole(nonsense)
    assert isinstance(dialect_of(name).refusal(400, {}, nonsense, WALL_S), BackendError)
