"""Instances of JSON schemas: valid, the same for the same seed, or refused by name."""

from __future__ import annotations

import re
from random import Random
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from backends.emulator.instances import BadSchema, instance
from backends.emulator.patterns import found, matching

NAMES = st.sampled_from("abcd")
LEAVES = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 20),
            "maxLength": st.integers(20, 60),
            "format": st.sampled_from(["date", "uuid", "email"]),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("integer")},
        optional={
            "minimum": st.integers(-50, 0),
            "maximum": st.integers(0, 50),
            "multipleOf": st.sampled_from([1, 2, 5]),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("number")}, optional={"minimum": st.floats(-5, 0), "exclusiveMaximum": st.floats(0.1, 9)}
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {}, {"const": 5}]),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers() | st.text(max_size=4), min_size=1, unique=True)),
)


def larger(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(
            lambda properties, required, more: {
                "type": "object",
                "properties": properties,
                "required": [name for name in required if name in properties],
                "additionalProperties": more,
            },
            st.dictionaries(NAMES, schemas, max_size=4),
            st.lists(NAMES, unique=True),
            st.booleans(),
        ),
        st.builds(
            lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
            schemas,
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        *(
            st.builds(lambda listed, key=key: {key: listed}, st.lists(schemas, min_size=1, max_size=3))
            for key in ("anyOf", "oneOf", "allOf")
        ),
    )


@settings(max_examples=200, deadline=None)
@given(schema=st.recursive(LEAVES, larger, max_leaves=12), seed=st.integers(0, 2**64 - 1))
def test_what_is_made_is_valid_and_the_same_again(schema: dict[str, Any], seed: int) -> None:
    try:
        made = instance(schema, seed)
    except BadSchema:
        return
    assert Draft202012Validator(schema).is_valid(made)
    assert instance(schema, seed) == made


NODE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["value", "next"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
        {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": False, "minItems": 2},
        {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
        {"type": "string", "minLength": 40},
        {"type": "string", "pattern": r"^\d{3}-[A-Z]{2}$"},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "integer", "minimum": 7, "maximum": 7},
        {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 100}]},
        {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"const": 2}}}], "required": ["b"]},
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
        {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b"], "maxProperties": 1},
    ],
)
def test_shapes_that_clients_ask_for(schema: dict[str, Any]) -> None:
    for seed in range(20):
        assert Draft202012Validator(schema).is_valid(instance(schema, seed))


def test_a_seed_is_a_choice() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    assert len({str(instance(schema, seed)) for seed in range(20)}) > 10
    assert set(instance(schema, 1)) == {"city", "days"}


@pytest.mark.parametrize(
    ("schema", "path", "why"),
    [
        ({"type": "objekt"}, ".type", "not a valid schema"),
        ({"properties": {"a": {"type": "nope"}}}, ".properties.a.type", "not a valid schema"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "", "no type is both"),
        ({"$ref": "https://elsewhere/schema"}, "", "not in this schema"),
        ({"$ref": "#/$defs/nowhere"}, "", "not in this schema"),
        ({"$ref": "#"}, "", "without an end"),
        ({"type": "array", "minItems": 10**9, "items": {"type": "integer"}}, ".items", "more than is emulated"),
        ({"type": "string", "minLength": 10**9}, "", "more than is emulated"),
        ({"type": "string", "pattern": "a(?=b)"}, ".pattern", "no text was found"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "", "between its bounds"),
        ({"type": "object", "required": ["a"], "properties": {"a": False}}, ".properties.a", "allows nothing"),
        ({"not": {}}, "", "no instance"),
        ([], "", "is an object"),
        ({"type": "object", "patternProperties": {"^(a+)+$": {}}}, "", "`patternProperties` is not emulated"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(schema: Any, path: str, why: str) -> None:
    with pytest.raises(BadSchema, match=re.escape(why)) as raised:
        instance(schema, 1)
    assert raised.value.path == path


def test_a_schema_that_contains_itself_everywhere_comes_to_an_end() -> None:
    every = {"type": "object", "properties": {name: {"$ref": "#"} for name in "abcdefgh"}}
    assert len(str(instance(every, 1))) < 20_000


@pytest.mark.parametrize(
    "pattern",
    [r"^(foo|bar)+[0-9a-f]{4,8}$", r"[^a-z]{3}", r"^[A-Za-z][\w.-]*@example\.com$", r"^(?:a|b){2}c?$", r"^[\]\-a]+$",
     r"^\+?[1-9]\d{1,14}$", r"^(?P<year>\d{4})-\d\d$", r"^.{5,}$", r"^(ab){0}c$", r"^a{2}(b{3}|c)$"],
)  # fmt: skip
def test_texts_match_their_pattern(pattern: str) -> None:
    for seed in range(30):
        said = matching(pattern, Random(seed))
        assert said is not None
        assert re.search(pattern, said)


@pytest.mark.parametrize("pattern", ["(", "a(?=b)c", r"(a)\1", "[", "a{3,1}", "*a", "x" * 300, r"\p{L}", "a{9999}"])
def test_no_text_is_better_than_a_wrong_one(pattern: str) -> None:
    assert matching(pattern, Random(1)) is None


@pytest.mark.parametrize(
    ("pattern", "shortest", "longest"),
    [("^[0-9]+$", 16, 16), (r"^\d*$", 30, 31), (r"^\d{1,30}$", 29, 29), (r"^(\d{2})*$", 16, 17), (r"^\d+\Z", 9, 9),
     (r"^(?:\d+|[a-f]+)-x$", 40, 40), (r"^(a+)?\d*$", 20, 20)],
)  # fmt: skip
def test_texts_have_the_length_that_is_asked_for(pattern: str, shortest: int, longest: int) -> None:
    for seed in range(30):
        said = matching(pattern, Random(seed), shortest, longest)
        assert said is not None
        assert shortest <= len(said) <= longest
        assert re.search(pattern, said)


DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
MONEY = r"^(?!^[-+.]*$)[+-]?0*(?:\d{0,3}|(?=[\d.]{1,6}0*$)\d{0,3}\.\d{0,2}0*$)"


@pytest.mark.parametrize("pattern", [DECIMAL, MONEY, r"\bfoo\b", r"^\u00e9+\x41$", r"^\d{4} ?[A-Z]{2}\Z", r"(?<!a)b"])
def test_patterns_as_pydantic_and_others_write_them(pattern: str) -> None:
    for seed in range(30):
        schema = {"type": "string", "pattern": pattern}
        assert Draft202012Validator(schema).is_valid(instance(schema, seed))


@pytest.mark.parametrize("pattern", ["^((a{500}){500}){9}$", "^(((a{30}){30}){30}){30}$"])
def test_counts_within_counts_hold_nobody_up(pattern: str) -> None:
    begun = perf_counter()
    assert matching(pattern, Random(1)) is None
    assert perf_counter() - begun < 1


def test_a_search_that_would_take_for_ever_is_stopped() -> None:
    assert not found(r"^(a|a)*$", "a" * 60 + "!")
    assert not found("(", "(")
    assert found(r"^a+$", "aaa")
