"""What a benchmark run amounts to, per substrate. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from app.cli.client import Reply
from app.planning import FREE_PROMPT_TOKENS
from app.replay.formats import Arrival

DISCLAIMER = "Timing of emulated backends is computed from datasheets; it is not a hardware result."


@dataclass(frozen=True, slots=True)
class Promise:
    """The SLO a reply is held against; TTFT grows by `ttft_s_per_1k` per 1,000 prompt tokens beyond 2,000."""

    ttft_s: float | None = 1.0
    ttft_s_per_1k: float = 0.5
    tpot_s: float | None = 0.05
    e2e_s: float | None = None

    def kept(self, arrival: Arrival, reply: Reply) -> bool:
        """Whether every part of the promise was kept; a failed request keeps none."""
        if reply.error is not None or reply.e2e_s is None:
            return False
        if self.ttft_s is not None and reply.ttft_s is not None:
            beyond = max(0, arrival.prompt_tokens - FREE_PROMPT_TOKENS) / 1000
            if reply.ttft_s > self.ttft_s + self.ttft_s_per_1k * beyond:
                return False
        tpot = tpot_s(reply)
        if self.tpot_s is not None and tpot is not None and tpot > self.tpot_s:
            return False
        return self.e2e_s is None or reply.e2e_s <= self.e2e_s


def tpot_s(reply: Reply) -> float | None:
    """(last token - first token) / (n - 1); None below two tokens, or when not streamed."""
    if reply.ttft_s is None or reply.e2e_s is None or not reply.usage or reply.usage["completion_tokens"] < 2:
        return None
    return (reply.e2e_s - reply.ttft_s) / (float(reply.usage["completion_tokens"]) - 1)


def summarise(
    arrivals: Sequence[Arrival], replies: Sequence[Reply], lateness_s: Sequence[float], promise: Promise, wall_s: float
) -> dict[str, Any]:
    """Totals and a row per substrate; `cache` is the row of answers that no silicon gave."""
    groups: dict[str, list[tuple[Arrival, Reply]]] = defaultdict(list)
    for arrival, reply in zip(arrivals, replies, strict=False):
        headers = reply.headers or {}
        place = "cache" if headers.get("x-turnout-cache") == "hit" else headers.get("x-turnout-substrate", "none")
        groups[place].append((arrival, reply))
    errors = Counter(reply.error for reply in replies if reply.error is not None)
    rows = [_row(name, groups[name], promise) for name in sorted(groups)]
    return {
        "offered": len(replies),
        "answered": len(replies) - errors.total(),
        "errors": dict(errors),
        "wall_s": wall_s,
        "completion_tokens_per_s": sum(row["completion_tokens"] for row in rows) / wall_s if wall_s else 0.0,
        "send_lateness_p99_s": _quantile(sorted(lateness_s), 0.99),
        "slo_attainment": sum(promise.kept(*pair) for pair in zip(arrivals, replies, strict=False)) / len(replies)
        if replies
        else None,
        "substrates": rows,
        "note": DISCLAIMER,
    }


def _row(name: str, pairs: Sequence[tuple[Arrival, Reply]], promise: Promise) -> dict[str, Any]:
    replies = [reply for _, reply in pairs]
    ttfts = sorted(reply.ttft_s for reply in replies if reply.ttft_s is not None)
    tpots = sorted(value for reply in replies if (value := tpot_s(reply)) is not None)
    usages = [reply.usage for reply in replies if reply.usage]
    tokens = sum(usage["total_tokens"] for usage in usages)
    costs = [usage.get("cost") for usage in usages]
    known = [cost for cost in costs if cost is not None]
    cost_usd = sum(known) if len(known) == len(costs) else None
    return {
        "substrate": name,
        "requests": len(pairs),
        "failed": sum(reply.error is not None for reply in replies),
        "ttft_p50_s": _quantile(ttfts, 0.5),
        "ttft_p95_s": _quantile(ttfts, 0.95),
        "tpot_p50_s": _quantile(tpots, 0.5),
        "tpot_p95_s": _quantile(tpots, 0.95),
        "slo_attainment": sum(promise.kept(*pair) for pair in pairs) / len(pairs),
        "total_tokens": tokens,
        "completion_tokens": sum(usage["completion_tokens"] for usage in usages),
        "cost_usd": cost_usd,
        "usd_per_million_tokens": cost_usd / tokens * 1e6 if cost_usd is not None and tokens else None,
        "unpriced": len(costs) - len(known),
        "cache_hits": sum((reply.headers or {}).get("x-turnout-cache") == "hit" for reply in replies),
    }


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank quantile of sorted values; None if there are none."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None
