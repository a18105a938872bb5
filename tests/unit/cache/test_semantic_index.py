"""The vector index against brute force, in its bounds, and under removal; the real model where it is installed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from app.cache.semantic.embedding import MAX_TOKENS, MiniLm, TextTooLong
from app.cache.semantic.index import ENTRY_OVERHEAD_BYTES, VectorIndex
from app.errors import StartupError

numpy = pytest.importorskip("numpy", reason="the extra `semantic` is not installed: numpy")


def unit(seed: int) -> Any:
    vector = numpy.random.default_rng(seed).normal(size=8).astype(numpy.float32)
    return vector / numpy.linalg.norm(vector)


def test_nearest_is_what_brute_force_finds_after_adds_and_removals() -> None:
    index, draw = VectorIndex(8, 10_000, 10**8), random.Random(3)
    kept: dict[bytes, tuple[bytes, Any]] = {}
    for step in range(600):
        partition, name = bytes([draw.randrange(3)]), str(draw.randrange(150)).encode()
        if draw.random() < 0.3:
            index.remove(name)
            kept.pop(name, None)
        else:
            index.add(partition, name, unit(step))
            kept[name] = (partition, unit(step))
    assert len(index) == len(kept)
    for seed in range(20):
        query = unit(10_000 + seed)
        brute = sorted((-float(vector @ query), name) for name, (part, vector) in kept.items() if part == b"\x01")[:5]
        found = index.nearest(b"\x01", query, 5)
        assert [match.entry_id for match in found] == [name for _, name in brute]
        assert [match.similarity for match in found] == pytest.approx([-s for s, _ in brute], abs=1e-5)
    for name in kept:
        index.remove(name)
    assert (len(index), index.used_bytes) == (0, 0)


def test_bounds_hold_and_the_least_recently_used_leaves() -> None:
    index = VectorIndex(8, 3, 10**6)
    for name in (b"a", b"b", b"c"):
        assert index.add(b"p", name, unit(1)) == []
    index.used(b"a")
    assert index.add(b"q", b"d", unit(2)) == [b"b"]
    assert VectorIndex(8, 3, ENTRY_OVERHEAD_BYTES).add(b"p", b"x", unit(1)) == [b"x"]
    assert index.nearest(b"nobody", unit(1), 3) == []
    assert index.nearest(b"p", unit(1), 0) == []


def test_a_long_run_stays_within_its_bytes() -> None:
    index, vector = VectorIndex(8, 10**9, 20_000), unit(1)
    for number in range(20_000):
        index.add(bytes([number % 7]), number.to_bytes(4, "big"), vector)
        assert index.used_bytes <= 20_000
    assert len(index) > 20


def test_the_model_embeds_alike_alone_or_in_a_batch_and_refuses_long_texts() -> None:
    try:
        model = MiniLm()
    except StartupError as missing:
        pytest.skip(str(missing))
    prompts = ["What is the capital of France?", "Which city is the capital of France?", "sort a list " * 20]
    rows = model.embed(prompts)
    assert rows.shape == (3, model.dimensions)
    assert numpy.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert float(rows[0] @ rows[1]) > 0.9 > float(rows[0] @ rows[2])
    assert float(model.embed(prompts[:1])[0] @ rows[0]) > 0.999
    long = "word " * MAX_TOKENS
    assert model.tokens(long) > MAX_TOKENS
    with pytest.raises(TextTooLong):
        model.embed([long])
