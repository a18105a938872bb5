"""The learned threshold keeps its promise where a fixed one does not; judges say what they say they do."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from app.cache.semantic import judge
from app.cache.semantic.verified import Decision, VerifiedThreshold, samples_until_first_hit


class Fixed(VerifiedThreshold):
    """The mutation: a threshold that never moves."""

    def decide(self, partition: bytes, similarity: float, draw: float) -> Decision:
        return "hit" if similarity >= 0.8 else "miss"


def played(cache: VerifiedThreshold, seed: int, pairs: int) -> tuple[int, int]:
    """Hits and false ones of a stream whose pairs are wrong the more often the less similar they are."""
    draw, hits, false = random.Random(seed), 0, 0
    for _ in range(pairs):
        similarity = draw.uniform(0.75, 1)
        correct = draw.random() >= 0.5 * ((1 - similarity) / 0.25) ** 2
        decision = cache.decide(b"p", similarity, draw.random())
        if decision == "hit":
            hits, false = hits + 1, false + (not correct)
        elif decision == "verify":
            cache.observe(b"p", similarity, correct)
    return hits, false


def rates(kind: type[VerifiedThreshold], rate: float) -> list[tuple[int, float]]:
    outcomes = [played(kind(rate), seed, 30_000) for seed in range(20)]
    return [(hits, false / max(1, hits)) for hits, false in outcomes]


@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_false_hits_stay_below_the_bound_and_a_fixed_threshold_breaks_it(rate: float) -> None:
    learned = rates(VerifiedThreshold, rate)
    assert sum(false <= rate for _, false in learned) >= 19
    assert min(hits for hits, _ in learned) > 500
    assert sum(false <= rate for _, false in rates(Fixed, rate)) < 19


def test_cold_it_serves_nothing_and_needs_the_told_number_of_pairs() -> None:
    for rate in (0.01, 0.05, 0.2):
        cache, needed = VerifiedThreshold(rate), samples_until_first_hit(rate)
        for _ in range(needed - 1):
            cache.observe(b"p", 0.99, True)
        assert cache.decide(b"p", 0.99, 0.9) == "verify"
        cache.observe(b"p", 0.99, True)
        assert cache.decide(b"p", 0.99, 0.9) == "hit"
        assert cache.decide(b"p", 0.99, 0.01) == "verify"
        assert cache.decide(b"p", 0.5, 0.9) == "miss"
        assert cache.decide(b"other", 0.99, 0.9) == "verify"


def test_drift_lowers_trust_and_a_prior_only_quickens() -> None:
    cache = VerifiedThreshold(0.05)
    for _ in range(5000):
        cache.observe(b"p", 0.99, True)
    for step in range(200):
        cache.observe(b"p", 0.99, step % 3 > 0)
    assert cache.threshold(b"p") is None
    shared = VerifiedThreshold(0.05)
    for _ in range(1000):
        shared.observe(b"a", 0.99, True)
    pairs = 0
    while shared.threshold(b"b") is None:
        shared.observe(b"b", 0.99, True)
        pairs += 1
    assert 20 < pairs < samples_until_first_hit(0.05)


def test_state_is_plain_and_bounded_and_comes_back() -> None:
    cache = VerifiedThreshold(0.05, max_partitions=3)
    for number in range(10):
        for step in range(200):
            cache.observe(bytes([number]), 0.9, step % 50 > 0)
    state = json.loads(json.dumps(cache.state()))
    assert len(state["partitions"]) == 3
    other = VerifiedThreshold(0.05, max_partitions=3)
    other.restore(state)
    assert other.state() == cache.state()
    with pytest.raises(ValueError, match="grid"):
        VerifiedThreshold(0.05, grid=(0.9,)).restore(state)


class Letters:
    """An embedder of how often each letter stands in a text."""

    dimensions = 26

    def embed(self, texts: Sequence[str]) -> object:
        numpy = pytest.importorskip("numpy", reason="the extra `semantic` is not installed: numpy")
        rows = numpy.array([[text.count(chr(97 + place)) for place in range(26)] for text in texts], numpy.float32)
        return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)

    def tokens(self, text: str) -> int:
        return len(text)


def test_judges() -> None:
    assert judge.exact("a", "a")
    assert not judge.exact("a", "A")
    assert judge.normalised(" Yes, 4.", "yes  4")
    assert not judge.normalised("+", "-")
    assert not judge.normalised("!", "?")
    for one, other in (("-5", "5"), ("1.5", "1 5"), ("1.5", "15"), ("50%", "50"), ("1/2", "1 2"), ("10:30", "10 30")):
        assert not judge.normalised(f"it is {one}.", f"it is {other}.")
    assert judge.normalised("It is 1.5, then 50%.", "it is 1.5 then 50%")
    near = judge.similarity(Letters(), 0.9)  # type: ignore[arg-type]
    assert near("abc", "cba")
    assert not near("abc", "xyz")
    assert not near("a" * 200, "aa")
