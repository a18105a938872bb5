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
(`n`, `logprobs`, ...), what only tunes it is dropped. The gateway has looked at a body's outline only, so what stands
deeper and is of no use here is refused by its place, as OpenAI would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from backends.errors import RequestRefused, Unsupported

MAX_TOKENS = 4096
TRANSLATED = frozenset(
    "messages tools tool_choice parallel_tool_calls stop user response_format reasoning_effort max_tokens "
    "max_completion_tokens metadata".split()
)
DROPPED = frozenset(
    "seed frequency_penalty presence_penalty logit_bias store service_tier stream_options verbosity prompt_cache_key "
    "safety_identifier priority min_tokens ignore_eos".split()
)
REFUSED = ("logprobs", "top_logprobs", "functions", "function_call", "audio", "modalities", "prediction")
_MEANS_NOTHING: tuple[Any, ...] = (None, False, 0, [], ["text"])
"""Values of a refused field that ask for what is done anyhow; `["text"]` is what `modalities` usually are."""

_EFFORTS = {"minimal": "low", "none": None}

_decode = msgspec.json.Decoder().decode


def messages_body(chat: Mapping[str, Any], model: str, max_tokens: int | None) -> dict[str, Any]:
    """Raises: Unsupported, RequestRefused: each names the field."""
    for name in REFUSED:
        if chat.get(name) not in _MEANS_NOTHING:
            raise Unsupported(f"'{name}' is not known to this service", name)
    if (chat.get("n") or 1) != 1:
        raise Unsupported("'n' other than 1 is not known to this service", "n")
    ours = TRANSLATED | DROPPED | {*REFUSED, "n"}
    fields = {name: value for name, value in chat.items() if name not in ours and value is not None}
    system, turns = _turns(_listing(chat.get("messages"), "messages"))
    fields |= {"model": model, "max_tokens": max_tokens or MAX_TOKENS, "messages": turns}
    if system:
        fields["system"] = system
    if chat.get("tools"):
        fields["tools"] = [
            _tool(tool, f"tools[{place}]") for place, tool in enumerate(_listing(chat["tools"], "tools"))
        ]
        if choice := _choice(chat.get("tool_choice"), chat.get("parallel_tool_calls")):
            fields["tool_choice"] = choice
    if stops := chat.get("stop"):
        fields["stop_sequences"] = [stops] if isinstance(stops, str) else stops
    # Of OpenAI's free metadata Anthropic takes this one alone.
    if user := chat.get("user") or _object(chat.get("metadata"), "metadata").get("user_id"):
        fields["metadata"] = {"user_id": user}
    if config := _output_config(chat):
        fields["output_config"] = config
    return fields


def _turns(messages: list[Any]) -> tuple[str, list[dict[str, Any]]]:
    """The system prompt, and turns by the other two roles in their order; neighbours of one role become one turn."""
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for place, given in enumerate(messages):
        at = f"messages[{place}]"
        message = _object(given, at)
        role = message.get("role")
        if role in ("system", "developer"):
            system += [block["text"] for block in _blocks(message.get("content"), f"{at}.content", only_text=True)]
            continue
        if role not in ("user", "assistant", "tool"):
            raise Unsupported(f"'{at}.role': '{role}' is not known to this service", f"{at}.role")
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
    for place, given in enumerate(_listing(message.get("tool_calls"), f"{at}.tool_calls")):
        call_at = f"{at}.tool_calls[{place}]"
        call = _object(given, call_at)
        function = _object(call.get("function"), f"{call_at}.function")
        arguments = _arguments(function.get("arguments"), f"{call_at}.function.arguments")
        blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": arguments})
    return blocks


def _arguments(given: Any, at: str) -> Mapping[str, Any]:
    try:
        return _object(_decode(_string(given, at) or "{}"), at)
    except (msgspec.DecodeError, RecursionError):
        raise RequestRefused(f"'{at}' is not valid JSON", at, "invalid_value") from None


def _user(message: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    blocks = _blocks(message.get("content"), f"{at}.content")
    if message.get("role") == "tool":
        return [{"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": blocks}]
    return blocks


def _blocks(content: Any, at: str, *, only_text: bool = False) -> list[dict[str, Any]]:
    """Anthropic takes no empty text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    listed = [_block(part, f"{at}[{place}]", only_text) for place, part in enumerate(_listing(content, at))]
    return [block for block in listed if block.get("text") != ""]


def _block(given: Any, at: str, only_text: bool) -> dict[str, Any]:
    part = _object(given, at)
    kind = part.get("type")
    if kind in ("text", "input_text", "refusal"):
        return {"type": "text", "text": _string(part.get("text") or part.get("refusal"), at)}
    if kind == "image_url" and not only_text:
        url = _string(_object(part.get("image_url"), f"{at}.image_url").get("url"), f"{at}.image_url.url")
        return {"type": "image", "source": _source(url, at)}
    file = _object(part.get("file"), f"{at}.file")
    if kind == "file" and file.get("file_data") and not only_text:
        data = _string(file["file_data"], f"{at}.file.file_data")
        return {
            "type": "document",
            "source": _source(data, at),
            "title": _string(file.get("filename"), f"{at}.file.filename") or None,
        }
    raise Unsupported(f"'{at}': parts of type '{kind}' are not known to this service", at)


def _source(url: str, at: str) -> dict[str, str]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, comma, data = url[5:].partition(",")
    if not comma or not head.endswith(";base64"):
        raise RequestRefused(f"'{at}': a data URL must be base64", at, "invalid_value")
    return {"type": "base64", "media_type": head.partition(";")[0], "data": data}


def _tool(told: Any, at: str) -> dict[str, Any]:
    tool = _object(told, at)
    if tool.get("type") != "function":
        raise Unsupported(f"'{at}.type': '{tool.get('type')}' is not known to this service", f"{at}.type")
    function = _object(tool.get("function"), f"{at}.function")
    name = _string(function.get("name"), f"{at}.function.name")
    if not name:
        field = f"{at}.function.name"
        raise RequestRefused(f"'{field}' is required", field, "missing_required_parameter")
    given: dict[str, Any] = {"name": name, "input_schema": function.get("parameters") or {"type": "object"}}
    return given | {name: function[name] for name in ("description", "strict") if function.get(name) is not None}


def _choice(choice: Any, parallel: bool | None) -> dict[str, Any] | None:
    chosen: dict[str, Any] | None = None
    if isinstance(choice, str):
        chosen = {"type": {"required": "any"}.get(choice, choice)}
    elif isinstance(choice, dict):
        name = _object(choice.get("function"), "tool_choice.function").get("name")
        if name is None:
            raise Unsupported("'tool_choice' other than a function's is not known to this service", "tool_choice")
        chosen = {"type": "tool", "name": name}
    if parallel is False and (chosen is None or chosen["type"] != "none"):
        chosen = {**(chosen or {"type": "auto"}), "disable_parallel_tool_use": True}
    return chosen


def _output_config(chat: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    effort = _string(chat.get("reasoning_effort"), "reasoning_effort")
    if effort and (known := _EFFORTS.get(effort, effort)) is not None:
        config["effort"] = known
    wanted = _object(chat.get("response_format"), "response_format")
    if wanted.get("type") == "json_schema":
        schema = _object(wanted.get("json_schema"), "response_format.json_schema").get("schema") or {"type": "object"}
        config["format"] = {"type": "json_schema", "schema": schema}
    elif wanted.get("type") == "json_object":
        raise Unsupported("'response_format': this service takes a schema, not `json_object`", "response_format")
    return config


def _object(value: Any, at: str) -> Mapping[str, Any]:
    """What stands there, an empty one if nothing does.

    Raises: RequestRefused.
    """
    if value is None or isinstance(value, dict):
        return value or {}
    raise RequestRefused(f"'{at}' must be an object", at, "invalid_type")


def _listing(value: Any, at: str) -> list[Any]:
    """Raises: RequestRefused."""
    if value is None or isinstance(value, list):
        return value or []
    raise RequestRefused(f"'{at}' must be an array", at, "invalid_type")


def _string(value: Any, at: str) -> str:
    """Raises: RequestRefused."""
    if value is None or isinstance(value, str):
        return value or ""
    raise RequestRefused(f"'{at}' must be a string", at, "invalid_type")
