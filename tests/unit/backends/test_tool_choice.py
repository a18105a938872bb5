"""Which tool an emulated model calls, and that a choice which makes no sense is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends.emulator.structured import structured
from backends.errors import RequestRefused
from backends.types import GenerationRequest

TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"title": name}}} for name in ("f", "g")]


def functions(**fields: Any) -> list[str]:
    body = {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS, **fields}
    found = structured(GenerationRequest("r", "chat", "m", ("x",), body=json.dumps(body).encode()))
    return [] if found is None else [function.name for function in found.functions]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (None, ["f", "g"]),
        ("auto", ["f", "g"]),
        ("required", ["f", "g"]),
        ("none", []),
        ({"type": "function", "function": {"name": "g"}}, ["g"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOLS[0]]}}, ["f"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": 3, "tools": [TOOLS[0]]}}, ["f"]),
    ],
)
def test_the_choice_leaves(choice: Any, names: list[str]) -> None:
    assert functions(tool_choice=choice) == names


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "h"}},
        {"type": "function", "function": "f"},
        {"type": "function"},
        {"allowed_tools": "f"},
        {"allowed_tools": {"tools": "f"}},
        {"allowed_tools": {"tools": ["f"]}},
        {"allowed_tools": {"tools": [{"function": "f"}]}},
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(choice: Any) -> None:
    with pytest.raises(RequestRefused) as raised:
        functions(tool_choice=choice)
    assert str(raised.value.param).startswith("tool_choice")


def test_arguments_are_an_object_whether_their_schema_says_so_or_not() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS, "tool_choice": "required"}
    found = structured(GenerationRequest("r", "chat", "m", ("x",), body=json.dumps(body).encode()))
    assert found is not None
    assert [function.schema["type"] for function in found.functions] == ["object", "object"]
