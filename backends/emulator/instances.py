"""A valid instance of a JSON schema, drawn from a seed. Pure.

Where a schema leaves something open, the choice is the seed's: words for text, small numbers, every property that is
named (down to a depth, then the required ones alone). What comes out has been validated; a schema that is malformed,
that nothing satisfies, or whose instance is not found here is refused by name, never answered with something else.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any
from urllib.parse import unquote

import jsonschema
from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from backends.emulator.numbers import drawn
from backends.emulator.patterns import found, matching
from backends.emulator.text import WORDS

MAX_NODES = 4096
MAX_WORK = 4 * MAX_NODES
"""Steps in all, those of alternatives that came to nothing included."""

MAX_DEPTH = 48
OPTIONAL_DEPTH = 3
"""Below it only what is required is said, so that a schema that contains itself comes to an end."""

TRIES = 8
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_HINTS = (
    ("object", ("properties", "required", "additionalProperties")),
    ("array", ("items", "prefixItems", "minItems", "maxItems")),
    ("string", ("pattern", "format", "minLength", "maxLength")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)
_COUNTS = tuple(f"{bound}{what}" for bound in ("min", "max") for what in ("Length", "Items", "Properties", "Contains"))
_FORMATS = {
    "date": "2026-03-14",
    "date-time": "2026-03-14T15:09:26Z",
    "time": "15:09:26Z",
    "duration": "P3DT4H",
    "email": "quiet.river@example.com",
    "idn-email": "quiet.river@example.com",
    "hostname": "station.example.com",
    "idn-hostname": "station.example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.com/track",
    "uri-reference": "/track",
    "iri": "https://example.com/track",
    "json-pointer": "/track/0",
    "relative-json-pointer": "1/track",
    "regex": "^track$",
}


class BadSchema(ValueError):
    """A schema that no instance is made of; `path` is where in it, as `.properties.city`, and `str()` says why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path = path


def instance(schema: Any, seed: int) -> Any:
    """A value that is valid under the schema.

    Raises: BadSchema.
    """
    if schema is True or schema == {}:
        return {}
    if not isinstance(schema, dict):
        raise BadSchema("", "a schema is an object")
    try:
        Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise BadSchema(_dotted(error.absolute_path), f"is not a valid schema: {error.message:.200}") from None
    except RecursionError:
        raise BadSchema("", "is nested too deeply") from None
    if _has_key(schema, "patternProperties"):
        raise BadSchema("", "`patternProperties` is not emulated")
    validator = _Validator(schema, registry=Registry())
    unmatched: set[Any] = set()
    refused: BadSchema | None = None
    for attempt in range(TRIES):
        builder = _Builder(schema, validator, Random(seed + attempt), unmatched)
        try:
            made = builder.make(schema, "", 0)
            if validator.is_valid(made):
                return made
        except BadSchema as error:
            refused = refused or error
        except RecursionError:
            refused = refused or BadSchema("", "is nested too deeply")
        except OverflowError:
            refused = refused or BadSchema("", "its numbers are larger than is emulated")
        except Unresolvable as error:
            raise BadSchema("", f"refers to what is not there: {error!s:.200}") from None
    raise refused or BadSchema("", "no instance of it was found: it asks for more than is emulated")


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(value, str) and not found(pattern, value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"pattern": _pattern}
)
"""jsonschema's own searches with `re`, which cannot be stopped."""


def _has_key(value: Any, key: str) -> bool:
    """Anywhere within, so that no part of a schema is left to `re`."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if key in each:
                return True
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return False


class _Builder:
    """`unmatched`: patterns that no text was found for, which take the longest; not looked for again, nor many."""

    def __init__(self, root: Mapping[str, Any], validator: Any, random: Random, unmatched: set[Any]) -> None:
        self._root = root
        self._validator = validator
        self._random = random
        self._unmatched = unmatched
        self._nodes = 0
        self._work = 0

    def make(self, schema: Any, path: str, depth: int) -> Any:
        self._nodes += 1
        self._work += 1
        if self._nodes > MAX_NODES or self._work > MAX_WORK or depth > MAX_DEPTH:
            raise BadSchema(path, "asks for more than is emulated, or for itself without an end")
        if schema is True:
            return self._word()
        if schema is False:
            raise BadSchema(path, "allows nothing")
        schema = self._resolved(schema, path)
        schema |= {key: int(schema[key]) for key in _COUNTS if key in schema}  # 2.0 is an integer too
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._one_of(schema, key, path, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum") == []:
            raise BadSchema(path, "allows nothing: no value is in both enumerations")
        if "enum" in schema:
            return self._listed(schema, path)
        made = getattr(self, f"_{self._type(schema)}")(schema, path, depth)
        self._nodes += len(made) // 16 if isinstance(made, str) else 0
        return made

    def _resolved(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Without references and `allOf`, which are laid over what stands beside them."""
        merged = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        for _ in range(MAX_DEPTH):
            reference, parts = schema.get("$ref"), list(schema.get("allOf", ()))
            if reference is not None:
                parts.append(self._referred(reference, path))
            if not parts:
                return merged
            self._work += len(parts)
            if self._work > MAX_WORK:
                break
            later: dict[str, Any] = {}
            for part in parts:
                if part is False:
                    raise BadSchema(path, "allows nothing")
                if part is not True:
                    plain = {key: value for key, value in part.items() if key not in ("$ref", "allOf")}
                    merged = _merged(merged, plain, path)
                    if "$ref" in part:
                        later.setdefault("allOf", []).append(self._referred(part["$ref"], path))
                    later.setdefault("allOf", []).extend(part.get("allOf", ()))
            schema = later
        raise BadSchema(path, "refers to itself without an end")

    def _referred(self, reference: str, path: str) -> Any:
        if not reference.startswith("#"):
            raise BadSchema(path, f"'{reference:.100}' is not in this schema")
        found: Any = self._root
        for step in reference[1:].strip("/").split("/") if reference != "#" else ():
            step = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, ValueError, TypeError):
                raise BadSchema(path, f"'{reference:.100}' is not in this schema") from None
        if not isinstance(found, (dict, bool)):
            raise BadSchema(path, f"'{reference:.100}' is no schema")
        return found

    def _one_of(self, schema: dict[str, Any], key: str, path: str, depth: int) -> Any:
        rest = {name: value for name, value in schema.items() if name != key}
        branches = list(enumerate(schema[key]))
        self._random.shuffle(branches)
        if depth >= OPTIONAL_DEPTH:  # towards an end
            branches.sort(key=lambda branch: len(str(branch[1])))
        refused: BadSchema | None = None
        for place, branch in branches:
            at, nodes = f"{path}.{key}[{place}]", self._nodes
            try:
                made = self.make({"allOf": [rest, branch]}, at, depth + 1)
            except BadSchema as error:
                self._nodes = nodes
                refused = refused or error
                continue
            if key == "anyOf" or self._fits_one(made, schema[key]):
                return made
        raise refused or BadSchema(path, "no instance of it was found: its alternatives overlap")

    def _fits_one(self, made: Any, branches: Sequence[Any]) -> bool:
        self._work += len(branches)
        fits = [bool(self._validator.evolve(schema=branch).is_valid(made)) for branch in branches]
        return sum(fits) == 1

    def _listed(self, schema: Mapping[str, Any], path: str) -> Any:
        """One of the values listed that what stands beside them allows."""
        values = schema["enum"]
        validator = self._validator.evolve(schema={key: value for key, value in schema.items() if key != "enum"})
        begin = self._random.randrange(len(values))
        for at in range(begin, begin + min(MAX_NODES, len(values))):
            self._work += 1
            if validator.is_valid(values[at % len(values)]):
                return values[at % len(values)]
        raise BadSchema(path, "allows nothing: what stands beside `enum` excludes all of it")

    def _type(self, schema: Mapping[str, Any]) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            given = [each for each in kind if each != "null"] or kind
            return str(self._random.choice(given))
        if kind is not None:
            return str(kind)
        return next((hinted for hinted, keys in _HINTS if any(key in schema for key in keys)), "string")

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), dict.fromkeys(schema.get("required", ()))
        least = schema.get("minProperties", 0)
        if least > MAX_NODES:
            raise BadSchema(path, f"{least:,} properties are more than is emulated")
        optional = [name for name in properties if name not in required]
        if depth >= OPTIONAL_DEPTH:
            optional = optional[: max(0, least - len(required))]
        depends = schema.get("dependentRequired", {})
        for name in (waiting := [*required, *optional]):
            new = [each for each in depends.get(name, ()) if each not in required]
            required |= dict.fromkeys(new)
            waiting += new
        optional = [name for name in optional if name not in required]
        most = schema.get("maxProperties", len(required) + len(optional))
        chosen = {*required, *optional[: max(0, most - len(required))]}
        names = [name for name in properties if name in chosen]
        made: dict[str, Any] = {}
        for name in names:
            try:
                made[name] = self.make(properties[name], f"{path}.properties.{name}", depth + 1)
            except BadSchema:
                if name in required:
                    raise
        further = schema.get("additionalProperties", True)
        wanted = [name for name in required if name not in properties]
        more = least - len(made) - len(wanted)
        for name in [*wanted, *(f"{WORDS[at % len(WORDS)]}{at}" for at in range(more))]:
            made[name] = self.make(further, f"{path}.additionalProperties", depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> list[Any]:
        first, rest = schema.get("prefixItems", ()), schema.get("items", True)
        least, most = schema.get("minItems", 0), schema.get("maxItems", MAX_NODES)
        last = schema.get("minContains", 1) if "contains" in schema else 0
        wanted = max(least, last, len(first), 0 if rest is False else self._random.randint(1, 3))
        if depth >= OPTIONAL_DEPTH:
            wanted = max(least, last)
        made: list[Any] = []
        for place in range(min(wanted, most)):
            at, schema_of = (f"{path}.items", rest)
            if place < len(first):
                at, schema_of = f"{path}.prefixItems[{place}]", first[place]
            if place >= wanted - last:
                schema_of = {"allOf": [schema_of, schema["contains"]]}
            try:
                each = self._distinct(schema_of, at, depth, made if schema.get("uniqueItems") else ())
            except BadSchema:
                if place < least:
                    raise
                break
            made.append(each)
        return made

    def _distinct(self, schema: Any, path: str, depth: int, before: Sequence[Any]) -> Any:
        for _ in range(TRIES * 4):
            made = self.make(schema, path, depth + 1)
            if made not in before:
                return made
        raise BadSchema(path, "no more instances of it were found, and `uniqueItems` wants them")

    def _string(self, schema: Mapping[str, Any], path: str, depth: int) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if least > MAX_NODES:
            raise BadSchema(path, f"a text of {least:,} characters is more than is emulated")
        if "pattern" in schema:
            known = (asked := (schema["pattern"], least, most)) in self._unmatched or len(self._unmatched) >= TRIES
            found = None if known else matching(schema["pattern"], self._random, least, most)
            if found is None:
                self._unmatched.add(asked)
                raise BadSchema(f"{path}.pattern", f"no text was found that matches '{schema['pattern']:.100}'")
            return found
        if schema.get("format") == "uuid":
            drawn = f"{self._random.getrandbits(128):032x}"
            return f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-a{drawn[17:20]}-{drawn[20:]}"
        said = _FORMATS.get(schema.get("format", ""), "")
        if not said:
            said = " ".join(self._word() for _ in range(self._random.randint(1, 3)))
            while len(said) < least:
                said += " " + self._word()
        if most is None:
            return said
        cut = said[:most]  # a space at the end would be no word
        return cut if not cut.endswith(" ") else cut[:-1] + self._random.choice(string.ascii_lowercase)

    def _number(self, schema: Mapping[str, Any], path: str, depth: int, whole: bool = False) -> float | int:
        steps = self._validator.evolve(schema={key: schema[key] for key in schema if key == "multipleOf"})
        made = drawn(schema, whole, self._random, steps.is_valid)
        if made is None:
            raise BadSchema(path, "no number was found between its bounds")
        return made

    def _integer(self, schema: Mapping[str, Any], path: str, depth: int) -> float | int:
        return self._number(schema, path, depth, whole=True)

    def _boolean(self, schema: Mapping[str, Any], path: str, depth: int) -> bool:
        return self._random.random() < 0.5

    def _null(self, schema: Mapping[str, Any], path: str, depth: int) -> None:
        return None

    def _word(self) -> str:
        return self._random.choice(WORDS)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any], path: str) -> dict[str, Any]:
    """What both ask for."""
    merged = dict(one)
    for key, value in other.items():
        if key not in merged or merged[key] == value:
            merged[key] = value
        elif key == "properties":
            both = {name: {"allOf": [merged[key][name], value[name]]} for name in value if name in merged[key]}
            merged[key] = {**merged[key], **value, **both}
        elif key == "required":
            merged[key] = [*merged[key], *(name for name in value if name not in merged[key])]
        elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
            merged[key] = max(merged[key], value)
        elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
            merged[key] = min(merged[key], value)
        elif key == "enum":
            merged[key] = [each for each in merged[key] if each in value]
        elif key == "type":
            merged[key] = _common(merged[key], value, path)
        elif key in ("items", "additionalProperties"):
            merged[key] = {"allOf": [merged[key], value]}
        elif key in ("anyOf", "oneOf"):
            # One of ours and one of theirs: the choice of theirs is made within ours.
            merged[key] = [{"allOf": [each, {key: value}]} for each in merged[key]]
        elif key in ("title", "description", "default", "examples", "$comment", "$defs", "definitions"):
            continue
        else:
            raise BadSchema(path, f"two different `{key}` at once are not emulated")
    return merged


def _common(one: str | list[str], other: str | list[str], path: str) -> str | list[str]:
    ones = [one] if isinstance(one, str) else one
    others = [other] if isinstance(other, str) else other
    if not (both := [kind for kind in _TYPES if _has(kind, ones) and _has(kind, others)]):
        raise BadSchema(path, "allows nothing: no type is both")
    return both


def _has(kind: str, kinds: Sequence[str]) -> bool:
    return kind in kinds or (kind == "integer" and "number" in kinds)


def _dotted(path: Sequence[Any]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
