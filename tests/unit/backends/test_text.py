"""Emulated words: deterministic, countable, reversible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.emulator import text
from backends.types import GenerationRequest


def request(**fields: object) -> GenerationRequest:
    return GenerationRequest("r", "chat", "m", ("hello there",), **fields)  # type: ignore[arg-type]


def answer(limit: int = 1000, choice: int = 0, **fields: object) -> text.Answer:
    asked = request(**fields)
    whole = text.answer(asked, "hello there", choice, limit)
    return next(found for found in text.cut(whole, asked.stop, asked.min_tokens) if found) if asked.stop else whole


def said(given: text.Answer) -> str:
    return text.slice_of(given, 0, given.tokens)


@given(st.text())
def test_tokens_join_back_to_the_text(sample: str) -> None:
    pieces = text.tokens(sample)
    assert "".join(pieces) == sample.rstrip() if pieces else not sample.strip()
    assert len(pieces) == len(sample.split())
    assert text.count(sample) == max(1, len(pieces))


def test_an_answer_has_as_many_tokens_as_it_says() -> None:
    for seed in range(50):
        given_ = answer(seed=seed)
        assert text.count(said(given_)) == given_.tokens
        assert text.SHORTEST <= given_.tokens <= text.LONGEST
        assert given_.reason == "stop"


def test_everything_that_should_change_the_answer_does() -> None:
    base = said(answer())
    assert said(answer()) == base
    assert said(answer(seed=1)) != base
    assert said(answer(choice=1)) != base
    assert said(text.answer(request(), "hello here", 0, 1000)) != base


def test_slices_add_up_wherever_they_are_cut() -> None:
    whole = answer()
    for cut in (0, 1, 5, whole.tokens):
        assert text.slice_of(whole, 0, cut) + text.slice_of(whole, cut, whole.tokens) == said(whole)


@pytest.mark.parametrize(
    ("fields", "limit", "tokens", "reason"),
    [
        ({}, 5, 5, "length"),
        ({"ignore_eos": True}, 700, 700, "length"),
        ({"min_tokens": 900}, 1000, 900, "stop"),
        ({"min_tokens": 900}, 900, 900, "stop"),
        ({"min_tokens": 900}, 100, 100, "length"),
    ],
)
def test_lengths_as_vllm_has_them(fields: dict[str, object], limit: int, tokens: int, reason: str) -> None:
    given_ = text.answer(request(**fields), "hello there", 0, limit)
    assert (given_.tokens, given_.reason) == (tokens, reason)


def test_a_stop_sequence_cuts_before_itself_and_counts_the_token_that_completed_it() -> None:
    full = said(answer())
    words = full.split()
    stop = f"{words[3][-1]} {words[4]}"  # spans two tokens
    cut = answer(stop=(stop,))
    assert said(cut) == full[: full.index(stop)]
    assert cut.reason == "stop"
    assert cut.tokens == len(full[: full.index(stop) + len(stop)].split())
    assert said(answer(stop=("no such text",))) == full
    pieces = "".join(text.slice_of(cut, at, at + 1) for at in range(cut.tokens))
    assert pieces == said(cut)


def test_the_earliest_of_several_stops_wins_and_min_tokens_delays_it() -> None:
    full = said(answer())
    words = full.split()
    assert said(answer(stop=(f" {words[9]}", f" {words[2]}"))) == full[: full.index(f" {words[2]}")]
    assert answer(stop=(f" {words[2]}",), min_tokens=8).tokens >= 8


def test_a_long_search_is_cut_into_windows_and_finds_what_lies_across_them() -> None:
    whole = text.answer(request(ignore_eos=True), "hello there", 0, 3000)
    full = said(whole)
    edge = len(text.words(whole.key, 0, text.WINDOW_TOKENS))
    stop = full[edge - 40 : edge + 40]
    steps = list(text.cut(whole, (stop,), 0))
    assert steps[:-1] == [None]
    assert steps[-1] is not None
    assert said(steps[-1]) == full[: full.index(stop)]
    assert list(text.cut(whole, ("no such text",), 0)) == [None, None, None, whole]


@given(st.integers(0, 2500), st.integers(0, 12), st.integers(1, 30))
def test_windows_change_nothing(begin: int, offset: int, length: int) -> None:
    """Against the rule said plainly: the first token, not before `min_tokens`, by which the stop has been said."""
    whole = text.answer(request(ignore_eos=True), "hello there", 0, 2600)
    full = said(whole)
    at = len(text.words(whole.key, 0, begin)) + offset
    stop, min_tokens = full[at : at + length], begin // 2
    if not stop:
        return
    found = next(each for each in text.cut(whole, (stop,), min_tokens) if each)
    floor = len(text.words(whole.key, 0, max(0, min_tokens - 1)))
    match = full.index(stop, max(0, floor - len(stop) + 1))
    assert said(found) == full[:match]
    assert len(text.words(whole.key, 0, found.tokens)) >= match + len(stop)
    assert len(text.words(whole.key, 0, found.tokens - 1)) < match + len(stop)
