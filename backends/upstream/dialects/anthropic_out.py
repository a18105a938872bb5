"""A chat's body as Anthropic's Messages have it: the reverse of what a gateway does for Anthropic's clients.

    system and developer messages            `system`
    tool_calls; messages of role `tool`      `tool_use` and `tool_result` blocks
    reasoning_content with its signature     a `thinking` block (without one Anthropic takes none back: left out)
    image_url and file parts                 `image` and `document` blocks
    tools, tool_choice, parallel_tool_calls  `tools`, `tool_choice`, `disable_parallel_tool_use`
    stop, user                               `stop_sequences`, `metadata.user_id`
    response_format, reasoning_effort        `output_config`
    max_tokens                               as planned, or `MAX_TOKENS`

Other fields go on as they are, but for those that Anthropic refuses: what changes the answer is refused here by name
(`n`, `logprobs`, ...), what only tunes it is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from backends.errors import RequestRefused, Unsupported

MAX_TOKENS = 4096
TRANSLATED = frozenset(
    "messages tools tool_choice parallel_tool_calls stop user response_format reasoning_effort max_tokens "
    "max_completion_tokens".split()
)
DROPPED = frozenset(
    "seed frequency_penalty presence_penalty logit_bias store service_tier stream_options verbosity prompt_cache_key "
    "safety_identifier priority min_tokens ignore_eos".split()
)
REFUSED = ("logprobs", "top_logprobs", "functions", "function_call", "audio", "modalities", "prediction")
_EFFORTS = {"minimal": "low", "none": None}


def messages_body(chat: Mapping[str, Any], model: str, max_tokens: int | None) -> dict[str, Any]:
    """Raises: Unsupported, RequestRefused: each names the field."""
    for name in REFUSED:
        if chat.get(name):
            raise Unsupported(f"'{name}' is not known to this service", name)
    if (chat.get("n") or 1) != 1:
        raise Unsupported("'n' other than 1 is not known to this service", "n")
    fields = {name: value for name, value in chat.items() if name not in TRANSLATED | DROPPED and name != "n"}
    fields = {name: value for name, value in fields.items() if value is not None}
    system, turns = _turns(chat.get("messages") or [])
    fields |= {"model": model, "max_tokens": max_tokens or MAX_TOKENS, "messages": turns}
    if system:
        fields["system"] = system
    if chat.get("tools"):
        fields["tools"] = [_tool(place, tool) for place, tool in enumerate(chat["tools"])]
        if choice := _choice(chat.get("tool_choice"), chat.get("parallel_tool_calls")):
            fields["tool_choice"] = choice
    if stops := chat.get("stop"):
        fields["stop_sequences"] = [stops] if isinstance(stops, str) else stops
    if chat.get("user"):
        fields["metadata"] = {"user_id": chat["user"]}
    if config := _output_config(chat):
        fields["output_config"] = config
    return fields


def _turns(messages: Iterable[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """The system prompt, and turns by the other two roles in their order; neighbours of one role become one turn."""
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        role, at = message.get("role"), f"messages[{place}]"
        if role in ("system", "developer"):
            system.append(_text(message.get("content")))
            continue
        blocks = _assistant(message, at) if role == "assistant" else _user(message, at)
        said_by = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == said_by:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": said_by, "content": blocks})
    return "\n".join(system), turns


def _assistant(message: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if message.get("reasoning_signature"):
        thought = message.get("reasoning_content") or ""
        blocks.append({"type": "thinking", "thinking": thought, "signature": message["reasoning_signature"]})
    blocks += _blocks(message.get("content"), f"{at}.content")
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        try:
            given = json.loads(function.get("arguments") or "{}")
        except ValueError:
            field = f"{at}.tool_calls[{place}].function.arguments"
            raise RequestRefused(f"'{field}' is not valid JSON", field, "invalid_value") from None
        blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given})
    return blocks


def _user(message: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    blocks = _blocks(message.get("content"), f"{at}.content")
    if message.get("role") == "tool":
        return [{"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": blocks}]
    return blocks


def _blocks(content: Any, at: str) -> list[dict[str, Any]]:
    """Anthropic takes no empty text."""
    if not content:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_block(part, f"{at}[{place}]") for place, part in enumerate(content)]


def _block(part: Mapping[str, Any], at: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "input_text", "refusal"):
        return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
    if kind == "image_url":
        return {"type": "image", "source": _source((part.get("image_url") or {}).get("url") or "", at)}
    if kind == "file" and (data := (part.get("file") or {}).get("file_data")):
        return {"type": "document", "source": _source(data, at), "title": part["file"].get("filename")}
    raise Unsupported(f"'{at}': parts of type '{kind}' are not known to this service", at)


def _source(url: str, at: str) -> dict[str, str]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, comma, data = url[5:].partition(",")
    media_type, _, encoding = head.partition(";")
    if not comma or encoding != "base64":
        raise RequestRefused(f"'{at}': a data URL must be base64", at, "invalid_value")
    return {"type": "base64", "media_type": media_type, "data": data}


def _tool(place: int, tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        at = f"tools[{place}].type"
        raise Unsupported(f"'{at}': tools of type '{tool.get('type')}' are not known to this service", at)
    function = tool["function"]
    given = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return given | {name: function[name] for name in ("description", "strict") if function.get(name) is not None}


def _choice(choice: Any, parallel: bool | None) -> dict[str, Any] | None:
    chosen: dict[str, Any] | None = None
    if isinstance(choice, str):
        chosen = {"type": {"required": "any"}.get(choice, choice)}
    elif isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        if name is None:
            raise Unsupported("'tool_choice' other than a function's is not known to this service", "tool_choice")
        chosen = {"type": "tool", "name": name}
    if parallel is False and (chosen is None or chosen["type"] != "none"):
        chosen = {**(chosen or {"type": "auto"}), "disable_parallel_tool_use": True}
    return chosen


def _output_config(chat: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    effort = chat.get("reasoning_effort")
    if effort is not None and (known := _EFFORTS.get(effort, effort)) is not None:
        config["effort"] = known
    wanted = chat.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema") or {"type": "object"}
        config["format"] = {"type": "json_schema", "schema": schema}
    elif wanted.get("type") == "json_object":
        raise Unsupported("'response_format': this service takes a schema, not `json_object`", "response_format")
    return config


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or ())
