"""Adds up a run as its requests end: totals, quantiles, and how good the predictions were. One run, one policy."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Any

from app.replay.records import Served, Worked

NUSD_PER_USD = 1e9
LOAD_CLASSES = ((1, "idle"), (8, "few"), (32, "many"), (float("inf"), "crowd"))
"""By how many requests were in flight at the backend when it was decided on: below that many."""

LATENCIES = ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s")
METRICS = ("usd_per_1k_good", "usd_per_1m_tokens", "slo_attainment", "goodput_rps", *LATENCIES)


class Quality:
    """How far predictions were off at one backend under one class of load: TTFT, then TPOT."""

    __slots__ = ("count", "covered", "error")

    def __init__(self) -> None:
        self.count = [0, 0]
        self.error = [0.0, 0.0]
        self.covered = [0, 0]

    def add(self, which: int, observed_s: float, predicted_s: float, q90_s: float) -> None:
        """One observation."""
        self.count[which] += 1
        self.error[which] += abs(predicted_s - observed_s) / observed_s
        self.covered[which] += observed_s <= q90_s

    def summary(self) -> dict[str, float | int | None]:
        """Mean absolute relative errors, and the shares of observations within the predicted 0.9 quantile."""
        made: dict[str, float | int | None] = {"requests": self.count[0]}
        for which, name in enumerate(("ttft", "tpot")):
            count = self.count[which]
            made[f"{name}_mape"] = self.error[which] / count if count else None
            made[f"{name}_q90_coverage"] = self.covered[which] / count if count else None
        return made


class Books:
    """Takes every request as it ends (`add`), then sums up (`summary`)."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self.offered = self.promised = self.good = self.ok = self.tokens = self.cached_tokens = self.attempts = 0
        self.forecast_nusd = 0.0
        self.spend_nusd = self.effective_nusd = self.unpriced = 0
        self._ttfts = array("d")
        self._tpots = array("d")
        self._quality: dict[tuple[int, str], Quality] = {}
        self._reasons: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def add(self, served: Served) -> None:
        """One request."""
        self.offered += 1
        self.promised += served.promised
        self.good += served.good and served.promised
        self.attempts += served.attempts
        self.forecast_nusd += served.forecast_nusd
        self.spend_nusd += served.spend_nusd
        if served.effective_nusd is None:
            self.unpriced += 1
        else:
            self.effective_nusd += served.effective_nusd
        if not served.ok:
            self._refused[served.reason] += 1
            return
        self.ok += 1
        self._reasons[served.reason] += 1
        self.tokens += served.prompt_tokens + served.completion_tokens
        self.cached_tokens += served.cached_tokens
        ttft_s, tpot_s = served.ttft_s, served.tpot_s
        assert ttft_s is not None
        self._ttfts.append(ttft_s)
        name = next(name for limit, name in LOAD_CLASSES if served.in_flight < limit)
        quality = self._quality.get((served.backend, name))
        if quality is None:
            quality = self._quality[served.backend, name] = Quality()
        if served.attempt_ttft_s:
            quality.add(0, served.attempt_ttft_s, served.predicted[0], served.predicted[1])
        if tpot_s:
            self._tpots.append(tpot_s)
            quality.add(1, tpot_s, served.predicted[2], served.predicted[3])

    def summary(self, span_s: float, worked: Sequence[Worked]) -> dict[str, Any]:
        """The run's figures; `span_s` is the time in which the requests arrived. Money that is unknown is None."""
        usd = (self.forecast_nusd + self.spend_nusd) / NUSD_PER_USD
        capacity_usd = sum(each.capacity_usd or 0.0 for each in worked)
        ttfts, tpots = sorted(self._ttfts), sorted(self._tpots)
        return {
            "requests": self.offered,
            "usd_per_1k_good": 1000 * usd / self.good if self.good else None,
            "usd_per_1m_tokens": 1e6 * usd / self.tokens if self.tokens else None,
            "slo_attainment": self.good / self.promised if self.promised else None,
            "goodput_rps": self.good / span_s,
            "ttft_p50_s": quantile(ttfts, 0.5),
            "ttft_p95_s": quantile(ttfts, 0.95),
            "tpot_p50_s": quantile(tpots, 0.5),
            "tpot_p95_s": quantile(tpots, 0.95),
            "without_slo": self.offered - self.promised,
            "answered": self.ok,
            "good": self.good,
            "refused": dict(sorted(self._refused.items())),
            "reasons": dict(sorted(self._reasons.items())),
            "attempts": self.attempts,
            "tokens": self.tokens,
            "cached_tokens": self.cached_tokens,
            "forecast_usd": self.forecast_nusd / NUSD_PER_USD,
            "token_spend_usd": self.spend_nusd / NUSD_PER_USD,
            "effective_usd": self.effective_nusd / NUSD_PER_USD,
            "bill_with_idle_usd": capacity_usd + self.spend_nusd / NUSD_PER_USD,
            "unpriced_requests": self.unpriced,
            "backends": [_backend(each) for each in worked],
            "predictions": [
                {"backend": self._names[backend], "load": load, **quality.summary()}
                for (backend, load), quality in sorted(self._quality.items())
            ],
        }


def _backend(worked: Worked) -> dict[str, Any]:
    total_s = worked.busy_s + worked.idle_s
    return {
        "backend": worked.name,
        "substrate": worked.substrate,
        "requests": worked.requests,
        "utilisation": worked.busy_s / total_s if total_s else 0.0,
        "effective_usd": worked.effective_usd,
        "capacity_usd": worked.capacity_usd,
        "idle_usd": None if worked.capacity_usd is None else worked.capacity_usd * worked.idle_s / total_s,
        "preemptions": worked.preemptions,
        "utilisation_over_time": list(worked.busy_by_slice),
    }


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of them do not exceed; None of nothing."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None
