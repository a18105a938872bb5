"""docs/api.md's table of what is passed, translated, dropped and refused is what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from app.api.wires import messages_in, responses_in
from app.api.wires.base import Arrival
from app.api.wires.embeddings import EMBEDDINGS
from app.api.wires.messages import MESSAGES
from app.api.wires.openai import CHAT, COMPLETION
from app.api.wires.responses import RESPONSES
from app.call import NO_OPTIONS
from app.errors import BadRequest
from app.planning import asked_of
from backends.upstream.dialects import anthropic_out
from backends.upstream.dialects.openai import request_body

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text()
ROWS = {
    row[0].strip(" `"): [set(re.findall(r"`(\w+)`", cell)) for cell in row[2:]]
    for row in (line.strip("|").split("|") for line in TEXT.splitlines() if "| every other field |" in line)
}
TURN = [{"role": "user", "content": "hi"}]
WIRES: dict[str, tuple[Any, dict[str, Any]]] = {
    "/v1/chat/completions": (CHAT, {"messages": TURN}),
    "/v1/completions": (COMPLETION, {"prompt": "hi"}),
    "/v1/embeddings": (EMBEDDINGS, {"input": "hi"}),
    "/v1/responses": (RESPONSES, {"input": "hi"}),
    "/v1/messages": (MESSAGES, {"messages": TURN, "max_tokens": 9}),
}
UNKNOWN = {"top_k": 5, "vendor_field": {"a": [1, None]}, "seed": 3}
REFUSABLE: dict[str, Any] = {"best_of": 2, "echo": True, "suffix": "x"}


def sent(path: str, **fields: Any) -> dict[str, Any]:
    """What a service is asked."""
    wire, least = WIRES[path]
    body = json.dumps({"model": "public", **least, **fields}).encode()
    call = wire.read(Arrival(body, "r", 0, NO_OPTIONS)).call
    plain: dict[str, Any] = json.loads(request_body(asked_of(call, call.model, call.max_tokens or 7), "up"))
    return plain


@pytest.mark.parametrize("path", WIRES)
def test_fields_that_nobody_here_knows_reach_the_service(path: str) -> None:
    asked = sent(path, **UNKNOWN)
    assert {name: asked[name] for name in UNKNOWN} == UNKNOWN
    assert asked["model"] == "up"


@pytest.mark.parametrize("path", WIRES)
def test_what_is_dropped_does_not(path: str) -> None:
    for name in ROWS[path][1]:
        value: Any = {"include_obfuscation": True} if name == "stream_options" else 5 if name == "priority" else "x"
        assert name not in sent(path, **{name: value}), name


@pytest.mark.parametrize("path", WIRES)
def test_what_is_refused_is_named(path: str) -> None:
    for name in ROWS[path][2]:
        with pytest.raises(BadRequest) as raised:
            sent(path, **{name: REFUSABLE.get(name, "x")})
        assert raised.value.param == name


@pytest.mark.parametrize(
    ("row", "module"),
    [
        ("/v1/responses", responses_in),
        ("/v1/messages", messages_in),
        ("any chat over the dialect `anthropic", anthropic_out),
    ],
)
def test_the_table_lists_what_the_code_does(row: str, module: Any) -> None:
    def listed(names: Iterable[str]) -> set[str]:
        return set(names)

    translated, dropped, refused = ROWS[row]
    assert translated == listed(module.TRANSLATED)
    assert dropped == listed(module.DROPPED)
    assert refused - {"n"} == listed(module.REFUSED)


def test_the_table_is_whole() -> None:
    assert set(WIRES) < set(ROWS)
    assert len(ROWS) == 6
