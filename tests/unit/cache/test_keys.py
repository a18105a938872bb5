"""What enters the cache key, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cache.keys import IGNORED, cache_key

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def key(tenant: str = "t", endpoint: str = "chat", epoch: str = "e", **fields: Any) -> bytes:
    return cache_key(tenant, endpoint, epoch, BODY | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "other"},
        {"messages": [{"role": "user", "content": "hi "}]},
        {"messages": [{"role": "system", "content": "hi"}]},
        {"temperature": 0.1},
        {"seed": 1},
        {"max_tokens": 5},
        {"stop": "x"},
        {"n": 2},
        {"tools": []},
        {"response_format": {"type": "json_object"}},
        {"a_field_nobody_knows": True},
        {"tenant": "other"},
        {"endpoint": "completion"},
        {"epoch": "other"},
    ],
)
def test_what_may_change_the_answer_changes_the_key(fields: dict[str, Any]) -> None:
    assert key(**fields) != key()


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_what_cannot_change_the_answer_does_not(name: str) -> None:
    assert key(**{name: "anything"}) == key()


def test_spellings_of_the_same_request_share_a_key() -> None:
    assert key(n=1) == key(seed=None) == key()
    assert key(max_completion_tokens=5) == key(max_tokens=5)
    assert key(max_completion_tokens=5, max_tokens=9) == key(max_completion_tokens=5)
    assert cache_key("t", "chat", "e", dict(reversed(BODY.items()))) == key()


def test_text_completions_know_no_max_completion_tokens() -> None:
    few = key("t", "completion", max_tokens=3, max_completion_tokens=10)
    assert few != key("t", "completion", max_tokens=9, max_completion_tokens=10)


def test_parts_cannot_run_into_each_other() -> None:
    assert cache_key("ab", "c", "e", BODY) != cache_key("a", "bc", "e", BODY)


@given(st.dictionaries(st.text(min_size=1), st.none() | st.integers() | st.text() | st.lists(st.integers())))
def test_any_body_has_a_stable_key_of_32_bytes(body: dict[str, Any]) -> None:
    first = cache_key("t", "chat", "e", body)
    assert first == cache_key("t", "chat", "e", dict(reversed(body.items())))
    assert len(first) == 32
