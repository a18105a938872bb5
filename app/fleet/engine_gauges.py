"""What an engine's Prometheus text says of its load: a few gauges, by the names that vLLM and SGLang give them. Pure.

A line is `name value`, `name{label="..."} value` or either with a timestamp; all else on the page is passed over. Ranks
of one server (label `engine`) add up; of their KV caches the fullest counts.
"""

from __future__ import annotations

from math import isfinite
from typing import Literal, NamedTuple

Quantity = Literal["running", "waiting", "kv"]

NAMES: dict[str, Quantity] = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv",
    "vllm:gpu_cache_usage_perc": "kv",  # before 0.10
    "sglang:num_running_reqs": "running",
    "sglang:num_queue_reqs": "waiting",
    "sglang:token_usage": "kv",
}
PREFIXES = ("vllm:", "sglang:")


class UnreadableMetrics(ValueError):
    """The page does not say what it should, or says what cannot be."""


class EngineLoad(NamedTuple):
    """Sequences in the batch, requests in the queue, share of the KV cache in use (None where it is not told)."""

    running: int
    waiting: int
    kv_used_ratio: float | None


def parse(text: str) -> EngineLoad:
    """Raises: UnreadableMetrics."""
    sums: dict[Quantity, float] = {}
    for line in text.splitlines():
        if not line.startswith(PREFIXES):
            continue
        name, value = _sample(line)
        quantity = NAMES.get(name)
        if quantity is None:
            continue
        number = _number(name, value)
        before = sums.get(quantity, 0.0)
        sums[quantity] = max(before, number) if quantity == "kv" else before + number
    if "running" not in sums or "waiting" not in sums:
        raise UnreadableMetrics("neither vLLM's nor SGLang's gauges of running and waiting requests are there")
    used = sums.get("kv")
    return EngineLoad(round(sums["running"]), round(sums["waiting"]), None if used is None else min(1.0, used))


def _sample(line: str) -> tuple[str, str]:
    """Name and value. The last brace ends the labels, since a label may hold one and a value cannot."""
    end = line.rfind("}")
    name, values = (line.partition("{")[0], line[end + 1 :]) if end >= 0 else tuple(line.partition(" ")[::2])
    return name, values.split()[0] if values.split() else ""


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UnreadableMetrics(f"{name} is no number: {text[:40]!r}") from None
    if not isfinite(number) or not 0 <= number < 1e12:
        raise UnreadableMetrics(f"{name} cannot be {text[:40]}")
    return number
