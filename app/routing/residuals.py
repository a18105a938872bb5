"""What observation teaches about a prior: how far off it is on average, and how far nine times in ten. Pure.

With e = ln(observed / prior), clipped to +-3, an observation belongs to a stratum (load bucket x size bucket), so that
idle traffic does not erase what was learned of a busy regime, nor short prompts what was learned of long ones:

    centre    m_s 2^(-age / 60 s), the rest being that of all strata together, and of no news at all 0; m_s is an
              exponential mean of e (rate 0.1, faster at first): what was found once is not held for ever against a
              backend that is not asked because of it
    quantile  Q = w Q_s + (1 - w) Q_pool,  w = n_eff / (n_eff + 20),  n_eff = n 2^(-age / 60 s)
    factors   exp(centre)  and  exp(centre + Q + trim)

Q_s is the empirical 0.9 quantile of the last 256 centred residuals of the stratum, Q_pool that of all strata together,
itself shrunk in the same way towards ln 1.3. Centring by the mean of the moment keeps the window useful when the mean
moves. Eight residuals in a row above the 0.9 or below the 0.1 quantile of their strata are no chance (1e-8) but drift:
every centre moves by their median, and they leave the windows, whose spread they say nothing of.

Who is asked is chosen by these very forecasts, and those that err on the low side are chosen most: so coverage is
checked against what was claimed, and `trim` moves by 0.02 (missed - 0.1) with each outcome (adaptive conformal
inference: its long-run coverage is 0.9 whatever the data do).

Of TPOT an observation is held against the prior beside what was *actually* read meanwhile: reading that others bring is
no fault of the prior, and who brings it is this router's own choice. So `factor_given` (without `trim`) is what holds
given the reading that was foretold; `factor_q90`, trimmed by what came of it all, is the quantile that is published.

What other processes have observed (`Prior`, by `app.fleet.sharing`) stands in for what is not known here: centre and
quantile start from it by n / (n + 20) of its n, and the own centre is then believed by n / (n + 20) too.

Source: split conformal prediction (Vovk et al.) with strata as in llm-d's latency predictor; Gibbs and Candes (2021)
for the trim.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from math import ceil, exp, log
from statistics import median
from typing import NamedTuple

QUANTILE = 0.9
PRIOR_Q90 = 1.3
PRIOR_Q90_LOG = log(PRIOR_Q90)
"""Until something was observed, reality is assumed to stay within 30 % of the prior nine times in ten."""

RESIDUAL_LIMIT = 3.0
MEAN_RATE = 0.1
WINDOW = 256
SHRINK = 20.0
HALF_LIFE_NS = 60e9
REFRESH_NS = 1_000_000_000
DRIFT_RUN = 8
TRIM_RATE, MOST_TRIM = 0.02, 0.7
FEWEST_FOR_DRIFT = 20
FEW_FOR_ALL = 4.0
"""One odd request says little of all others: what is pooled counts for strata by n / (n + 4)."""

POOL = -1
"""The key of all strata together among priors."""


class Prior(NamedTuple):
    """What others have observed of a stratum: mean residual, 0.9 quantile of the centred ones, how many."""

    centre: float
    q90: float
    samples: int


class Stratum:
    """The residuals of one bucket, and the factors made from them."""

    __slots__ = (
        "centre", "factor", "factor_given", "factor_q90", "fresh_until_ns", "made_from", "prior", "ranked", "samples",
        "seen_ns", "window",
    )  # fmt: skip

    def __init__(self, centre: float = 0.0) -> None:
        self.centre = centre
        self.samples = 0
        self.seen_ns = 0
        self.window: deque[float] = deque()
        self.ranked: list[float] = []
        self.prior: Prior | None = None
        self.factor = 1.0
        self.factor_given = self.factor_q90 = PRIOR_Q90
        self.made_from = -1
        self.fresh_until_ns = 0

    def take(self, residual: float, now_ns: int) -> None:
        """One residual more; past 256 the oldest is forgotten."""
        window, ranked = self.window, self.ranked
        centred = residual - self.centre
        if len(window) == WINDOW:
            del ranked[bisect_left(ranked, window.popleft())]
        window.append(centred)
        insort(ranked, centred)
        self.samples += 1
        self.seen_ns = now_ns
        self.centre += max(MEAN_RATE, 1.0 / (self.samples + 1)) * centred

    def forget_last(self) -> None:
        """The newest residual was no residual."""
        if self.window:
            del self.ranked[bisect_left(self.ranked, self.window.pop())]

    def quantile(self, share: float) -> float:
        """Empirical quantile with the finite-sample rank ceil((n + 1) share); 0 of nothing."""
        count = len(self.ranked)
        return self.ranked[min(count - 1, ceil((count + 1) * share) - 1)] if count else 0.0

    def freshness(self, now_ns: int) -> float:
        """From 1 down, by half for every 60 s since the last residual."""
        fresh: float = 2.0 ** (-max(0, now_ns - self.seen_ns) / HALF_LIFE_NS)
        return fresh

    def effective_samples(self, now_ns: int) -> float:
        """Residuals seen, fewer the longer ago the last one came."""
        return self.samples * self.freshness(now_ns)

    def weight(self, now_ns: int) -> float:
        """How far its own quantile is believed."""
        effective = self.effective_samples(now_ns)
        return effective / (effective + SHRINK)

    def beside(self, centre: float, quantile: float, now_ns: int) -> tuple[float, float]:
        """(centre, quantile) as this stratum has them, given what holds where it knows nothing."""
        own = self.freshness(now_ns)
        if (prior := self.prior) is not None:
            believed = prior.samples / (prior.samples + SHRINK)
            centre += (prior.centre - centre) * believed
            quantile += (prior.q90 - quantile) * believed
            own *= self.samples / (self.samples + SHRINK)
        believed = self.weight(now_ns)
        quantile = believed * self.quantile(QUANTILE) + (1.0 - believed) * quantile
        return centre + (self.centre - centre) * own, quantile

    def side(self, residual: float) -> int:
        """1 above the 0.9 quantile, -1 below the 0.1 quantile, else 0."""
        centred = residual - self.centre
        return (centred > max(0.0, self.quantile(QUANTILE))) - (centred < min(0.0, self.quantile(1.0 - QUANTILE)))


class Residuals:
    """Everything learned about one quantity (TTFT, say) of one deployment."""

    __slots__ = ("_run", "_side", "pool", "strata", "trim")

    def __init__(self) -> None:
        self.trim = 0.0
        self.pool = Stratum()
        self.strata: dict[int, Stratum] = {}
        self._side = 0
        self._run: list[tuple[Stratum, float]] = []

    def learn(self, key: int, observed: float, prior: float, now_ns: int, claimed: float | None = None) -> None:
        """Take one observation, all in one unit and positive; `claimed` is the 0.9 quantile it was foretold with."""
        if claimed is not None:
            missed = 1.0 if observed > claimed else 0.0
            self.trim = min(MOST_TRIM, max(-MOST_TRIM, self.trim + TRIM_RATE * (missed - (1.0 - QUANTILE))))
        residual = min(RESIDUAL_LIMIT, max(-RESIDUAL_LIMIT, log(observed / prior)))
        pool = self.pool
        stratum = self.strata.get(key)
        if stratum is None:
            stratum = self.strata[key] = Stratum(pool.centre)
        if pool.samples:
            self._watch_for_drift(stratum, residual)
        stratum.take(residual, now_ns)
        pool.take(residual, now_ns)

    def refresh(self, stratum: Stratum, now_ns: int) -> None:
        """Make a stratum's factors anew: due when it has new samples or `fresh_until_ns` has passed (what all strata
        know moves them within a second)."""
        pool = self.pool
        centre, quantile = pool.beside(0.0, PRIOR_Q90_LOG, now_ns)
        centre *= pool.samples / (pool.samples + FEW_FOR_ALL)
        if stratum is not pool:
            centre, quantile = stratum.beside(centre, quantile, now_ns)
        stratum.factor = exp(centre)
        stratum.factor_given = exp(centre + max(0.0, quantile))
        stratum.factor_q90 = exp(centre + max(0.0, quantile + self.trim))
        stratum.made_from = stratum.samples
        stratum.fresh_until_ns = now_ns + REFRESH_NS

    def share(self, priors: Mapping[int, Prior]) -> None:
        """What others have observed, by stratum; replaces what they told before."""
        self.pool.prior = priors.get(POOL)
        for key in priors.keys() - self.strata.keys() - {POOL}:
            self.strata[key] = Stratum(self.pool.centre)
        self.pool.fresh_until_ns = -1
        for key, stratum in self.strata.items():
            stratum.prior = priors.get(key)
            stratum.fresh_until_ns = -1

    def _watch_for_drift(self, stratum: Stratum, residual: float) -> None:
        """Count residuals in a row on one side of the usual; enough of them move every centre at once."""
        side = (stratum if stratum.samples >= FEWEST_FOR_DRIFT else self.pool).side(residual)
        run = self._run
        if side != self._side:
            run.clear()
            self._side = side
        if side == 0:
            return
        run.append((stratum, residual - stratum.centre))
        if len(run) < DRIFT_RUN:
            return
        shift = median(off for _, off in run)
        for touched, _ in run[:-1]:  # the last one is yet to be taken
            touched.forget_last()
            self.pool.forget_last()
        for each in (self.pool, *self.strata.values()):
            each.centre += shift
            each.fresh_until_ns = -1
        run.clear()
