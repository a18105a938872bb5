"""Answers that are more than words: calls of tools, and JSON that follows a schema. Pure.

Whether a tool is called is a rule, not a draw, so that a conversation with an agent comes to its end: a call is made
unless `tool_choice` is `none` or the last message is a tool's result, which is answered in text (by `response_format`,
if there is one). Which tool is drawn from the seed, like the arguments. One call is made at a time, whatever
`parallel_tool_calls` allows. Stop sequences, `min_tokens` and `ignore_eos` do not reach into such an answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from backends.emulator import text
from backends.emulator.instances import BadSchema, instance
from backends.errors import RequestRefused, Unsupported
from backends.types import GenerationRequest, ToolCallPart

_SHAPES = frozenset({"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"})
_RESULTS = ("tool", "function")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Function(NamedTuple):
    """A tool that may be called; `at` is where it stands in the request."""

    at: str
    name: str
    schema: Any


class Structured(NamedTuple):
    """What a request wants beside words: functions one of which is to be called, else a schema (None: any text)."""

    functions: Sequence[Function]
    schema: Any
    schema_at: str = "response_format.json_schema.schema"

    def answer(self, request: GenerationRequest, prompt: str, choice: int, limit: int) -> text.Answer:
        """What one choice says.

        Raises: RequestRefused naming the schema of which there is no instance.
        """
        key = text.key_of(request.model, prompt, request.seed, choice)
        tool: ToolCallPart | None = None
        schema, at = self.schema, self.schema_at
        if self.functions:
            function = self.functions[key % len(self.functions)]
            tool = ToolCallPart(0, f"call_{key:016x}", function.name)
            schema, at = function.schema, f"{function.at}.parameters"
        try:
            value = instance(schema, key)
        except BadSchema as error:
            param = f"{at}{error.path}"
            raise RequestRefused(f"'{param}': {error}", param, "invalid_schema") from None
        pieces = text.tokens(json.dumps(value, ensure_ascii=False))
        ended = len(pieces) <= limit
        reason = ("tool_calls" if tool else "stop") if ended else "length"
        kept = tuple(pieces[:limit])
        return text.Answer(key, len(kept), reason, kept, tool)  # type: ignore[arg-type]


def structured(request: GenerationRequest) -> Structured | None:
    """None for a request of plain words.

    Raises: Unsupported for what is not emulated; RequestRefused for what makes no sense.
    """
    if not request.body:
        return None
    body = _decode(request.body)
    if body.get("functions"):
        raise Unsupported("'functions' is not emulated: use 'tools'", "functions")
    functions = _callable(body)
    last = body.get("messages", [{}])[-1]
    if last.get("role") in _RESULTS and _mode(body.get("tool_choice")) == "auto":
        functions = []
    schema = _schema(body.get("response_format") or {})
    return Structured(functions, schema) if functions or schema is not None else None


def _schema(wanted: dict[str, Any]) -> Any:
    if wanted.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    return wanted.get("json_schema", {}).get("schema", {}) if wanted.get("type") == "json_schema" else None


def _callable(body: dict[str, Any]) -> list[Function]:
    """The functions one of which the answer calls, if it may call any."""
    functions: list[Function] = []
    for place, tool in enumerate(body.get("tools") or ()):
        if tool.get("type") != "function":
            at = f"tools[{place}].type"
            raise Unsupported(f"'{at}': tools of type '{tool.get('type')}' are not emulated", at)
        function = tool["function"]
        at = f"tools[{place}].function"
        functions.append(Function(at, function["name"], _parameters(function.get("parameters") or {})))
    choice = body.get("tool_choice")
    if _mode(choice) == "none":
        return []
    names = _named(choice)
    if names is None:
        return functions
    chosen = [function for function in functions if function.name in names]
    if not chosen:
        raise RequestRefused("'tool_choice' names no tool of this request", "tool_choice", "invalid_value")
    return chosen


def _parameters(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments are an object, whether their schema says so or not."""
    return schema if _SHAPES & set(schema) else {"type": "object", **schema}


def _mode(choice: Any) -> str:
    """Raises: RequestRefused."""
    if isinstance(choice, str):
        return choice
    if isinstance(choice, dict) and choice:
        mode = _part(choice, "allowed_tools").get("mode", "required")
        return mode if isinstance(mode, str) else "required"
    return "auto"


def _named(choice: Any) -> list[Any] | None:
    """The names that a choice leaves; None = all.

    Raises: RequestRefused.
    """
    if not isinstance(choice, dict):
        return None
    listed = _part(choice, "allowed_tools").get("tools", [choice])
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise _senseless("tool_choice.allowed_tools.tools", "must be a list of tools")
    return [_part(tool, "function").get("name") for tool in listed]


def _part(choice: dict[str, Any], name: str) -> dict[str, Any]:
    part = choice.get(name) or {}
    if not isinstance(part, dict):
        raise _senseless(f"tool_choice.{name}", "must be an object")
    return part


def _senseless(at: str, why: str) -> RequestRefused:
    return RequestRefused(f"'{at}' {why}", at, "invalid_value")
