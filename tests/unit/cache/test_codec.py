"""Answers as bytes and back; what was not written whole, for this key, with a key we have, is no answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cache.base import CachedAnswer, CachedCall, CachedChoice
from app.cache.codec import Codec
from backends.types import Usage

KEY, OTHER = b"k" * 32, b"o" * 32
FIRST, SECOND = bytes(range(32)), bytes(range(1, 33))
ROOM = 100_000


def answer(text: str = "hello") -> CachedAnswer:
    calls = (CachedCall("c", "f", '{"a":1}'),)
    choices = (CachedChoice(text, "stop", "END", calls, "hm", "sig"), CachedChoice("", "length"))
    return CachedAnswer(choices, Usage(3, 1, 2, 0), "m", "b", "gpu", 123, 456, 789, 999)


CODECS = {
    "plain": Codec(ROOM, compress=False),
    "packed": Codec(ROOM),
    "sealed": Codec(ROOM, keys=[FIRST]),
    "sealed, not packed": Codec(ROOM, compress=False, keys=[FIRST]),
}


@pytest.mark.parametrize("name", CODECS)
@given(text=st.text(max_size=300))
def test_what_goes_in_comes_out(name: str, text: str) -> None:
    codec = CODECS[name]
    value = codec.encode(KEY, answer(text))
    assert value is not None
    assert codec.decode(KEY, value) == answer(text)
    assert codec.decode(OTHER, value) is None, "a value belongs to its key"


@pytest.mark.parametrize("name", CODECS)
@given(place=st.integers(0, 10_000), by=st.integers(1, 255), cut=st.booleans())
def test_a_value_that_was_changed_or_cut_is_no_answer(name: str, place: int, by: int, cut: bool) -> None:
    value = CODECS[name].encode(KEY, answer("some text that is long enough to be packed " * 9))
    assert value is not None
    place %= len(value)
    mangled = value[:place] if cut else value[:place] + bytes([value[place] ^ by]) + value[place + 1 :]
    assert CODECS[name].decode(KEY, mangled) is None


@pytest.mark.parametrize("name", CODECS)
@given(value=st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"TRN2" + rest))
def test_foreign_values_are_no_answers(name: str, value: bytes) -> None:
    assert CODECS[name].decode(KEY, value) is None


def test_keys_turn_over_and_what_is_not_sealed_is_not_taken() -> None:
    old = CODECS["sealed"].encode(KEY, answer())
    plain = CODECS["packed"].encode(KEY, answer())
    assert old is not None
    assert plain is not None
    assert Codec(ROOM, keys=[SECOND, FIRST]).decode(KEY, old) == answer()
    assert Codec(ROOM, keys=[SECOND]).decode(KEY, old) is None
    assert CODECS["sealed"].decode(KEY, plain) is None
    assert CODECS["packed"].decode(KEY, old) is None
    assert b"hello" not in old


def test_a_long_answer_is_packed_and_one_too_long_is_not_kept() -> None:
    long = answer("word " * 1000)
    packed = CODECS["packed"].encode(KEY, long)
    assert packed is not None
    assert len(packed) < 500
    assert Codec(400, compress=False).encode(KEY, long) is None


def test_what_unpacks_to_far_more_than_is_kept_is_not_unpacked() -> None:
    bomb = CODECS["packed"].encode(KEY, answer("a" * 90_000))
    assert bomb is not None
    assert Codec(1000).decode(KEY, bomb) is None
