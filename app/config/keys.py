"""Which keys an entry of a configuration has, by its JSON Schema: what an unknown key there may have meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Schema = Mapping[str, Any]


class Keys(NamedTuple):
    """Keys of an entry as it is, of its other modes, types or kinds, and which of its keys alone has a key below it."""

    own: tuple[str, ...]
    others: tuple[str, ...] = ()
    below: Mapping[str, str] = {}


def keys_at(schema: Schema, path: Sequence[str | int], data: Any) -> Keys:
    """The keys of the entry at that path of the data; none where the schema knows no such entry."""
    found = [schema]
    for part in path:
        possible = [node for each in found for node in _fitting(schema, each, data)]
        found = [below for node in possible for below in _below(node, part)]
        data = _inside(data, part)
    listed = [node for each in found for node in _variants(schema, each)]
    fitting = [node for each in found for node in _fitting(schema, each, data)]
    own, every = _properties(fitting), _properties(listed)
    holders: dict[str, dict[str, None]] = {}
    for node in fitting:
        for name, inner in node.get("properties", {}).items():
            for key in _properties(list(_variants(schema, inner))):
                holders.setdefault(key, {})[name] = None
    below = {key: next(iter(names)) for key, names in holders.items() if len(names) == 1}
    return Keys(tuple(own), tuple(key for key in every if key not in own), below)


def _properties(nodes: Sequence[Schema]) -> dict[str, Any]:
    return {key: None for node in nodes for key in node.get("properties", {})}


def _variants(schema: Schema, node: Schema) -> Iterator[Schema]:
    """What a node may be, references followed and unions taken apart."""
    if (reference := node.get("$ref")) is not None:
        yield from _variants(schema, schema["$defs"][reference.removeprefix("#/$defs/")])
        return
    unions = [each for kind in ("oneOf", "anyOf", "allOf") for each in node.get(kind, ())]
    for each in unions:
        yield from _variants(schema, each)
    if not unions:
        yield node


def _fitting(schema: Schema, node: Schema, data: Any) -> list[Schema]:
    """The variants that the words in the data (`mode`, `type`) allow; all of them where they allow none."""
    listed = list(_variants(schema, node))
    return [each for each in listed if _fits(each, data)] or listed


def _fits(node: Schema, data: Any) -> bool:
    if not isinstance(data, Mapping):
        return True
    for name, inner in node.get("properties", {}).items():
        if "const" in inner and data.get(name, inner.get("default")) != inner["const"]:
            return False
    return True


def _below(node: Schema, part: str | int) -> list[Schema]:
    if isinstance(part, int):
        return [node["items"]] if isinstance(node.get("items"), Mapping) else []
    if part in node.get("properties", {}):
        return [node["properties"][part]]
    named = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    return [each for each in named if isinstance(each, Mapping)]


def _inside(data: Any, part: str | int) -> Any:
    try:
        return data[part]
    except (KeyError, IndexError, TypeError):
        return None
