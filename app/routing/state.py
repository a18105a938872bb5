"""Everything the router has counted and learned: one value, owned by `app.fleet`, changed only by deltas.

    loads        what is in flight at each backend, by this gateway's own count (never stale)
    corrections  how far off the prior has been, per backend and model
    cursors      positions of policies that take turns
    lengths      characters per prompt token and tokens per answer, per model
    gates        backends that get nothing for now, with the reason (a breaker is open, an outlier ejected, ...)
    scraped      what live backends' engines last reported of their load (`app.fleet.monitor`)

`observe` is the only way to learn. Cache hits and cancelled answers never reach it as completed ones.
"""

from __future__ import annotations

from math import exp, log
from typing import NamedTuple

from app.routing.types import Outcome, Reservation

PRIOR_Q90 = 1.3
PRIOR_Q90_LOG = log(PRIOR_Q90)
"""Until something was observed, reality is assumed to stay within 30 % of the prior nine times in ten."""

MEAN_RATE = 0.1
QUANTILE_RATE = 0.05
QUANTILE = 0.9
RESIDUAL_LIMIT = 3.0
LENGTH_RATE = 0.05
FEWEST_CHARACTERS, MOST_CHARACTERS = 0.5, 16.0
"""Characters per token that one prompt may teach: one client's padding must not change everyone's estimates."""


class Load:
    """What one backend has in flight: sequences, prompt tokens whose first answer token is awaited, and the
    TPOT promises made to those already there."""

    __slots__ = ("_tpot_slos", "pending_prompt_tokens", "sequences", "tightest_tpot_slo_s")

    def __init__(self) -> None:
        self.sequences = 0
        self.pending_prompt_tokens = 0
        self.tightest_tpot_slo_s: float | None = None
        self._tpot_slos: dict[float, int] = {}

    def promise(self, slo_s: float | None, change: int) -> None:
        """One promise more (1) or less (-1)."""
        if slo_s is None:
            return
        left = self._tpot_slos.get(slo_s, 0) + change
        if left:
            self._tpot_slos[slo_s] = left
        else:
            del self._tpot_slos[slo_s]
        self.tightest_tpot_slo_s = min(self._tpot_slos, default=None)


class Correction:
    """Online correction of one prior in log space: an exponential mean and a stochastic 0.9 quantile.

    With e = ln(observed / prior): mean += 0.1 (e - mean); q += 0.05 (0.9 - [e <= q]), the Robbins-Monro
    recursion whose fixed point is the 0.9 quantile. Both start at the prior's own spread.
    """

    __slots__ = ("factor", "factor_q90", "mean_log", "q90_log", "samples")

    def __init__(self) -> None:
        self.samples = 0
        self.mean_log = 0.0
        self.q90_log = PRIOR_Q90_LOG
        self.factor = 1.0
        self.factor_q90 = exp(PRIOR_Q90_LOG)

    def learn(self, observed_s: float, prior_s: float) -> None:
        """Take one observation; both in seconds and positive."""
        residual = max(-RESIDUAL_LIMIT, min(RESIDUAL_LIMIT, log(observed_s / prior_s)))
        self.samples += 1
        self.mean_log += MEAN_RATE * (residual - self.mean_log)
        self.q90_log += QUANTILE_RATE * (QUANTILE - (1.0 if residual <= self.q90_log else 0.0))
        self.factor = exp(self.mean_log)
        self.factor_q90 = max(self.factor, exp(self.q90_log))


class Lengths:
    """How long this model's prompts and answers run, learned from usage."""

    __slots__ = ("characters_per_token", "completion_tokens")

    def __init__(self) -> None:
        self.characters_per_token = 4.0
        self.completion_tokens = 256.0


class Gate(NamedTuple):
    """A backend is shut until `until_ns` (monotonic); `reason` is a closed set: it becomes a metric label."""

    reason: str
    until_ns: int


class Scraped(NamedTuple):
    """What an engine reported of itself, everybody's requests included; asked for at `at_ns`, and past `fresh_until_ns`
    (both monotonic) it is stale: unknown, not zero. `kv_used_ratio` None = not told."""

    running: int
    waiting: int
    kv_used_ratio: float | None
    at_ns: int
    fresh_until_ns: int


class RoutingState:
    """All learned and sticky state of the decision."""

    __slots__ = ("corrections", "cursors", "gates", "lengths", "loads", "scraped")

    def __init__(self) -> None:
        self.loads: dict[str, Load] = {}
        self.corrections: dict[tuple[str, str], tuple[Correction, Correction]] = {}
        self.cursors: dict[str, int] = {}
        self.lengths: dict[str, Lengths] = {}
        self.gates: dict[str, Gate] = {}
        self.scraped: dict[str, Scraped] = {}

    def load(self, backend: str) -> Load:
        """The load of a backend, zero if it was never seen."""
        found = self.loads.get(backend)
        if found is None:
            found = self.loads[backend] = Load()
        return found

    def correction(self, backend: str, model: str) -> tuple[Correction, Correction]:
        """(TTFT, TPOT) corrections of a deployment."""
        found = self.corrections.get((backend, model))
        if found is None:
            found = self.corrections[backend, model] = (Correction(), Correction())
        return found

    def length(self, model: str) -> Lengths:
        """Learned lengths of a model."""
        found = self.lengths.get(model)
        if found is None:
            found = self.lengths[model] = Lengths()
        return found

    def forget(self, backend: str) -> None:
        """Unlearn a backend that is another one now; what is in flight there still is."""
        self.corrections = {key: value for key, value in self.corrections.items() if key[0] != backend}
        self.gates.pop(backend, None)
        self.scraped.pop(backend, None)

    def reserve(self, reservation: Reservation, now_ns: int) -> None:
        """Count a dispatched request as in flight."""
        load = self.load(reservation.backend)
        load.sequences += reservation.sequences
        load.pending_prompt_tokens += reservation.prompt_tokens
        load.promise(reservation.tpot_slo_s, 1)

    def first_token(self, reservation: Reservation, now_ns: int) -> None:
        """Its prompt no longer waits."""
        self.load(reservation.backend).pending_prompt_tokens -= reservation.prompt_tokens

    def release(self, reservation: Reservation, now_ns: int) -> None:
        """Give back the sequences (the prompt tokens are given back by `first_token`)."""
        load = self.load(reservation.backend)
        load.sequences -= reservation.sequences
        load.promise(reservation.tpot_slo_s, -1)

    def observe(self, outcome: Outcome, now_ns: int) -> None:
        """Learn from how an attempt went."""
        view, prediction = outcome.chosen.view, outcome.chosen.prediction
        ttft, tpot = self.correction(view.name, view.model)
        prior_ttft_s, prior_tpot_s = prediction.prior_ttft_s, prediction.prior_tpot_s
        if outcome.ttft_s and prior_ttft_s > 0:
            ttft.learn(outcome.ttft_s, prior_ttft_s)
        if outcome.tpot_s and prior_tpot_s > 0:
            tpot.learn(outcome.tpot_s, prior_tpot_s)
        length = self.length(view.model)
        if outcome.prompt_tokens and outcome.prompt_chars:
            seen = min(max(outcome.prompt_chars / outcome.prompt_tokens, FEWEST_CHARACTERS), MOST_CHARACTERS)
            length.characters_per_token += LENGTH_RATE * (seen - length.characters_per_token)
        if outcome.completion_tokens:
            length.completion_tokens += LENGTH_RATE * (outcome.completion_tokens - length.completion_tokens)
