"""Keywords of JSON schemas, many at once: numbers to the last digit, counts written as 2.0, values listed, objects."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from time import perf_counter
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from backends.emulator.instances import BadSchema, instance

INTEGERS = {"type": "array", "items": {"type": "integer"}}
INNER = {"type": "object", "additionalProperties": False, "minProperties": 1, "properties": {"x": {"type": "integer"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 10**18 + 1, "maximum": 10**18 + 3},
        {"type": "integer", "exclusiveMinimum": 2**53, "maximum": 2**53 + 1},
        {"type": "array", "minItems": 10, "items": {"type": "integer", "multipleOf": 2.5}},
        {"type": "array", "minItems": 10, "items": {"type": "integer", "multipleOf": 1.5, "minimum": 1}},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.5},
        {"type": "number", "minimum": 1e308},
        {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"type": "number", "minimum": 0.1}},
        {**INTEGERS, "minItems": 2.0},
        {**INTEGERS, "maxItems": 2.0},
        {"type": "string", "minLength": 30.0},
        {"type": "string", "maxLength": 2.0},
        {"type": "string", "minLength": 3.0, "maxLength": 3.0, "pattern": "^[0-9]+"},
        {"type": "object", "minProperties": 2.0},
        {"type": "object", "maxProperties": 1.0, "properties": {"a": {}, "b": {}}},
        {"type": "object", "minProperties": 2, "maxProperties": 2, "required": ["a", "b"]},
        {"type": "array", "minItems": 9, "items": {"type": "string", "enum": ["a", 1, 2, 3, None]}},
        {**INTEGERS, "contains": {"const": 7}},
        {"type": "array", "contains": {"type": "integer", "minimum": 5}, "minContains": 2},
        {"type": "object", "properties": {"a": {}}, "dependentRequired": {"a": ["b"], "b": ["c"]}},
        {"type": "object", "properties": {"a": INNER}, "required": ["a"]},
    ],
)
def test_keywords(schema: dict[str, Any]) -> None:
    for seed in range(30):
        assert Draft202012Validator(schema).is_valid(instance(schema, seed))


def test_the_least_number_of_properties_holds_far_down_too() -> None:
    schema: dict[str, Any] = INNER
    for _ in range(4):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    assert Draft202012Validator(schema).is_valid(instance(schema, 1))


@pytest.mark.parametrize("step", ["0.01", "0.1", "0.001", "0.25"])
def test_multiples_have_no_more_digits_than_their_step(step: str) -> None:
    schema = {"type": "array", "minItems": 30, "items": {"type": "number", "multipleOf": float(step), "minimum": 0}}
    for seed in range(20):
        made = instance(schema, seed)
        assert Draft202012Validator(schema).is_valid(made)
        assert all(not Decimal(repr(each)) % Decimal(step) for each in made)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "integer", "minimum": 10**400}, "between its bounds"),
        ({"type": "number", "minimum": 10**400}, "between its bounds"),
        ({"type": "number", "multipleOf": 10**400}, "between its bounds"),
        ({"type": "number", "minimum": 1e308, "multipleOf": 1e-300}, "between its bounds"),
        ({"type": "number", "exclusiveMinimum": 2, "exclusiveMaximum": 3, "multipleOf": 1}, "between its bounds"),
        ({"enum": [10**400], "multipleOf": 0.5}, "larger than is emulated"),
        ({"enum": [1, 2], "type": "string"}, "beside `enum`"),
        ({"type": "object", "minProperties": 10**9}, "more than is emulated"),
        ({"type": "array", "minItems": 2000, "items": {"type": "string", "minLength": 4000}}, "more than is emulated"),
    ],
)
def test_what_is_too_large_or_nothing_is_refused(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(BadSchema, match=why):
        instance(schema, 1)


def test_patterns_that_nothing_is_found_for_hold_nobody_up() -> None:
    endless = {"type": "string", "pattern": "^(a|a)*(b^)$"}
    begun = perf_counter()
    with pytest.raises(BadSchema):
        instance({"oneOf": [endless] * 300}, 1)
    assert instance({"type": "object", "properties": {f"a{at}": endless for at in range(300)}}, 1) == {}
    assert perf_counter() - begun < 5


TEXTS: list[dict[str, Any]] = [
    {"pattern": r"^\d{4}$"},
    {"pattern": "^[0-9]+$", "minLength": 12, "maxLength": 12.0},
    {"pattern": r"^[A-Z]{2}\d{2,}$", "minLength": 5},
    {"minLength": 5, "maxLength": 5},
    *({"format": each} for each in ("date", "date-time", "time", "uuid", "email", "uri", "ipv4", "ipv6", "hostname")),
]
NUMBERS: list[dict[str, Any]] = [
    {},
    {"minimum": 0, "maximum": 100},
    {"exclusiveMinimum": 0.1, "maximum": 3},
    {"minimum": 2**53 + 1, "maximum": 2**53 + 9},
    {"minimum": 1.0, "multipleOf": 0.5},
    {"exclusiveMaximum": 9, "multipleOf": 3.0},
]
NODE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["v"],
}


def drawn(random: Random, depth: int = 0) -> dict[str, Any]:
    """A schema that has an instance."""
    kinds = ["text", "number", "listed", "node"] + (["object", "array", "any", "all"] if depth < 4 else [])
    kind = random.choice(kinds)
    if kind == "text":
        return {"type": "string", **random.choice(TEXTS)}
    if kind == "number":
        return {"type": random.choice(["integer", "number"]), **random.choice(NUMBERS)}
    if kind == "listed":
        return random.choice(
            [{"enum": ["a", 1, None]}, {"const": [0]}, {"type": ["string", "null"]}, {"not": {"const": 1}}]
        )
    if kind == "node":
        return {"$ref": "#/$defs/node"}
    if kind == "array":
        least = random.choice([0, 1, 2.0])
        return {"type": "array", "items": drawn(random, depth + 1), "minItems": least, "maxItems": least + 2}
    if kind == "any":
        return {"anyOf": [drawn(random, depth + 1) for _ in range(random.randint(1, 3))]}
    if kind == "all":
        return {"allOf": [drawn(random, depth + 1), {"description": "as before"}]}
    properties = {name: drawn(random, depth + 1) for name in random.sample("abcdef", random.randint(1, 4))}
    required = random.sample(sorted(properties), random.randint(0, len(properties)))
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": random.random() < 0.5,
        "minProperties": len(properties),
    }


def test_many_schemas_that_have_an_instance_are_given_one() -> None:
    for seed in range(400):
        schema = {**drawn(Random(seed)), "$defs": {"node": NODE}}
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        begun = perf_counter()
        made = instance(schema, seed)
        assert perf_counter() - begun < 2
        assert not list(validator.iter_errors(json.loads(json.dumps(made))))
        assert json.dumps(instance(schema, seed)) == json.dumps(made)


ANIMALS = {
    name: {"type": "object", "properties": {"kind": {"const": name}}, "required": ["kind"]} for name in ("cat", "dog")
}


@pytest.mark.parametrize("key", ["anyOf", "oneOf"])
def test_a_union_of_references_is_any_of_them(key: str) -> None:
    schema = {key: [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}, {"type": "null"}], "$defs": ANIMALS}
    assert {str(instance(schema, seed)) for seed in range(40)} == {"None", "{'kind': 'cat'}", "{'kind': 'dog'}"}
    assert instance({"allOf": [{"$ref": "#/$defs/cat"}], "$defs": ANIMALS}, 1) == {"kind": "cat"}


@pytest.mark.parametrize("aside", [{"$ref": "#/title", "title": "x"}, {"allOf": [{"$ref": "#/title"}], "title": "x"}])
def test_a_reference_to_what_is_no_schema_is_refused(aside: dict[str, Any]) -> None:
    with pytest.raises(BadSchema, match="is no schema"):
        instance(aside, 1)


def test_references_that_double_hold_nobody_up() -> None:
    doubled: dict[str, Any] = {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(30)}
    with pytest.raises(BadSchema):
        instance({"$ref": "#/$defs/d0", "$defs": {**doubled, "d30": {"type": "integer"}}}, 1)
