"""Everything the router has counted and learned: one value, owned by `app.fleet`, changed only by deltas.

    loads      what is in flight at each backend, by this gateway's own count (never stale)
    learned    how far off the prior has been, per deployment (`residuals`)
    lengths    characters per prompt token and tokens per answer, per model
    prefixes   which prompts a backend has read of late
    gates      backends that get nothing for now, with the reason (a breaker is open, an outlier ejected, ...)
    scraped    what live backends' engines last reported of their load (`app.fleet.monitor`)
    warmth     of backends that are scaled to zero when idle: since when they are warm and when they were last used
    sticky     notes that pickers leave for their next turn: whose turn it is, who was chosen last, ...

`observe` is the only way to learn. Cache hits and cancelled answers never reach it as completed ones.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import exp, log
from typing import NamedTuple, Protocol

from app.routing.prefixes import PrefixTable
from app.routing.reading import Reading
from app.routing.residuals import RESIDUAL_LIMIT, SHRINK, Prior, Residuals
from app.routing.types import Outcome, Prediction, Reservation

SLOWNESS_RATE = 0.02
MOSTLY_READING = 0.5
"""Share that reading must have of a TTFT, or decode of a TPOT, for it to teach how slow that is."""

FEWEST_FOR_PACE = 4
"""Tokens that an answer must have for its pace to teach anything: of two, both may come in one packet."""

LENGTH_RATE = 0.05
LENGTH_WINDOW = 256
FEWEST_CHARACTERS, MOST_CHARACTERS = 0.5, 16.0
"""Characters per token that one prompt may teach: one client's padding must not change everyone's estimates."""

BEGUN_KEPT = 1024

READING_TAU_NS = 20e9
"""Over how long the share of time spent on reading prompts is averaged: several answers' length."""


class Heard(Protocol):
    """Tells when the last token of a backend came in: its steps end with tokens, so this is its beat."""

    def last_ns(self, now_ns: int) -> int:
        """When, as of now; 0 if never."""
        ...


class LastToken:
    """The beat as a gateway hears it that relays the tokens."""

    __slots__ = ("ns",)

    def __init__(self) -> None:
        self.ns = 0

    def last_ns(self, now_ns: int) -> int:
        """When, as of now; 0 if never."""
        return self.ns


class Others(NamedTuple):
    """What other gateway processes have in flight at a backend (`app.fleet.sharing`): apart from the own count.

    `prompt_tokens` are of prompts whose first token has not come (who sees only a part of the traffic does not
    know how far they have been read), `reading_s` prompt time they sent of late.
    """

    sequences: int = 0
    resident_tokens: int = 0
    prompt_tokens: int = 0
    reading_s: float = 0.0
    tightest_tpot_slo_s: float | None = None


NOBODY = Others()


class Load:
    """What one backend has in flight, by this gateway's count; `others` is what other processes have.

    `sequences` decode or wait; `resident_tokens` is their expected context (half the answer counted); `reading` are the
    prompts among them that have not been read. `tightest_tpot_slo_s` is the strictest pace promised to those already
    there; `heard` is when tokens come. `reading_s` (as of `reading_ns`) is prompt time dispatched of late, fading by
    20 s / (20 s + age): as good as an exponential while requests come, and cheaper. `begun` are the times at which
    the last few hundred answers began, and how far prompts had been read then.
    """

    __slots__ = (
        "begun", "heard", "others", "pending_prompt_tokens", "reading", "reading_ns", "reading_s", "resident_tokens",
        "sequences", "tightest_tpot_slo_s", "tpot_slos",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sequences = 0
        self.resident_tokens = 0
        self.pending_prompt_tokens = 0
        self.reading = Reading()
        self.heard: Heard = LastToken()
        self.tightest_tpot_slo_s: float | None = None
        self.reading_s = 0.0
        self.reading_ns = 0
        self.begun: list[tuple[int, float]] = []
        self.others = NOBODY
        self.tpot_slos: dict[float, int] = {}

    def tightest_s(self) -> float | None:
        """The strictest pace promised to anybody there, by whatever process."""
        own_s, others_s = self.tightest_tpot_slo_s, self.others.tightest_tpot_slo_s
        return own_s if others_s is None or (own_s is not None and own_s < others_s) else others_s

    def beside(self, others: Others) -> Load:
        """The same own load beside others."""
        load = Load()
        load.begun, load.heard, load.others, load.reading = self.begun, self.heard, others, self.reading
        load.pending_prompt_tokens, load.resident_tokens = self.pending_prompt_tokens, self.resident_tokens
        load.reading_ns, load.reading_s, load.sequences = self.reading_ns, self.reading_s, self.sequences
        load.tightest_tpot_slo_s, load.tpot_slos = self.tightest_tpot_slo_s, self.tpot_slos
        return load

    def join(self, reservation: Reservation, now_ns: int) -> None:
        """One request more."""
        self.sequences += reservation.sequences
        self.resident_tokens += reservation.resident_tokens
        self.pending_prompt_tokens += reservation.prompt_tokens
        self.reading.send(reservation.ticket, reservation.prompt_s, reservation.pace, now_ns)
        faded = READING_TAU_NS / (READING_TAU_NS + now_ns - self.reading_ns)
        self.reading_s = self.reading_s * faded + reservation.prompt_s
        self.reading_ns = now_ns
        self.promise(reservation.tpot_slo_s, 1)

    def prompt_read(self, reservation: Reservation, now_ns: int) -> None:
        """Its prompt no longer waits."""
        self.pending_prompt_tokens -= reservation.prompt_tokens
        self.reading.first_token(reservation.ticket, now_ns)
        self.begun.append((now_ns, self.reading.read_by(now_ns)))
        if len(self.begun) > BEGUN_KEPT:
            del self.begun[: BEGUN_KEPT // 2]

    def leave(self, reservation: Reservation) -> None:
        """It has ended (its prompt was given back by `prompt_read`)."""
        self.sequences -= reservation.sequences
        self.resident_tokens -= reservation.resident_tokens
        self.promise(reservation.tpot_slo_s, -1)

    def promise(self, slo_s: float | None, change: int) -> None:
        """One promise more (1) or less (-1)."""
        if slo_s is None:
            return
        left = self.tpot_slos.get(slo_s, 0) + change
        if left:
            self.tpot_slos[slo_s] = left
        else:
            del self.tpot_slos[slo_s]
        self.tightest_tpot_slo_s = min(self.tpot_slos, default=None)


class Slowness:
    """By how much the profile's seconds are stretched (`factor`), as a slow exponential mean of log ratios."""

    __slots__ = ("factor", "log", "prior", "samples")

    def __init__(self) -> None:
        self.prior: Prior | None = None
        self.factor = 1.0
        self.log = 0.0
        self.samples = 0

    def learn(self, seen: float, assumed: float) -> None:
        """What took `seen` seconds was foretold with `assumed`, the factor in it."""
        ratio_log = min(RESIDUAL_LIMIT, max(-RESIDUAL_LIMIT, log(seen / assumed)))
        samples = self.samples + 1
        self.put(self.log + max(SLOWNESS_RATE, 1.0 / (samples + 1)) * (ratio_log - self.log), samples)

    def put(self, log_factor: float, samples: int) -> None:
        """Set it."""
        self.log, self.samples = log_factor, samples
        if (prior := self.prior) is None:
            self.factor = exp(log_factor)
        else:
            weight = min(SHRINK, prior.samples)
            self.factor = exp((samples * log_factor + weight * prior.centre) / (samples + weight))

    def share(self, prior: Prior | None) -> None:
        """What others have found; it counts as 20 samples at most."""
        self.prior = prior
        self.put(self.log, self.samples)


class Learned:
    """Corrections of a deployment's predicted TTFT and TPOT.

    `reading` and `decoding` stretch the profile's seconds before anything is added that is known in real seconds (what
    is left of a step, say): learned slowly, of TTFTs where nobody was waiting and of what is left of a TPOT when the
    reading of others' prompts is taken off. `ttft` and `tpot` correct the whole.
    """

    __slots__ = ("decoding", "reading", "tpot", "ttft")

    def __init__(self) -> None:
        self.ttft = Residuals()
        self.tpot = Residuals()
        self.reading = Slowness()
        self.decoding = Slowness()

    def learn_ttft(self, prediction: Prediction, ttft_s: float, now_ns: int) -> None:
        """Take an observed TTFT, in seconds."""
        self.ttft.learn(prediction.ttft_stratum, ttft_s, prediction.prior_ttft_s, now_ns, prediction.ttft_q90_s)
        if prediction.wait_s <= 0.0 and prediction.prompt_s >= MOSTLY_READING * prediction.prior_ttft_s:
            self.reading.learn(ttft_s, prediction.prior_ttft_s / prediction.slowness)

    def learn_tpot(self, prediction: Prediction, tpot_s: float, tokens: int, reading_s: float, now_ns: int) -> None:
        """Take an observed TPOT (s) of an answer of so many tokens, beside which prompts were read for `reading_s`."""
        held_up_s = reading_s / max(1, tokens - 1)
        beside_s = prediction.decode_s + held_up_s
        self.tpot.learn(prediction.tpot_stratum, tpot_s, beside_s, now_ns, prediction.tpot_q90_s)
        decode_s = tpot_s - held_up_s
        if decode_s >= MOSTLY_READING * tpot_s:  # else what is left is the difference of two guesses
            self.decoding.learn(decode_s, prediction.decode_s / prediction.decode_slowness)


class Lengths:
    """How long this model's prompts and answers run, learned from usage: exponential means, and the 0.75 quantile of
    the last 256 answers (for what must not turn out dearer)."""

    __slots__ = ("_ranked", "characters_per_token", "completion_tokens", "prompt_tokens", "window")

    def __init__(self) -> None:
        self.characters_per_token = 4.0
        self.completion_tokens = 256.0
        self.prompt_tokens = 1000.0
        self.window: deque[int] = deque()
        self._ranked: list[int] = []

    @property
    def completion_tokens_q75(self) -> float:
        """Three answers in four are no longer."""
        ranked = self._ranked
        return float(ranked[len(ranked) * 3 // 4]) if ranked else 1.5 * self.completion_tokens

    def shorter(self, tokens: float) -> float:
        """Share of answers with fewer tokens than that; before any has been seen, an exponential law's."""
        ranked = self._ranked
        if not ranked:
            return 1.0 - exp(-tokens / self.completion_tokens)
        return bisect_left(ranked, tokens) / len(ranked)

    def answer(self, tokens: int) -> None:
        """An answer of that many tokens has been completed."""
        window, ranked = self.window, self._ranked
        if len(window) == LENGTH_WINDOW:
            del ranked[bisect_left(ranked, window.popleft())]
        window.append(tokens)
        insort(ranked, tokens)
        self.completion_tokens += max(LENGTH_RATE, 1 / (len(window) + 1)) * (tokens - self.completion_tokens)

    def prompt(self, characters: int, tokens: int) -> None:
        """A prompt of that many characters (0 = not known) was that many tokens."""
        self.prompt_tokens += LENGTH_RATE * (tokens - self.prompt_tokens)
        if not characters:
            return
        seen = min(max(characters / tokens, FEWEST_CHARACTERS), MOST_CHARACTERS)
        self.characters_per_token += LENGTH_RATE * (seen - self.characters_per_token)


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


class Warmth(NamedTuple):
    """A backend that is scaled to zero when idle: it is (or was) warm from `warm_ns` on (None = cold, and nobody has
    asked), and was last used at `used_ns`; while it warms up, `warm_ns` is yet to come."""

    warm_ns: int | None
    used_ns: int


class RoutingState:
    """All learned and sticky state of the decision."""

    __slots__ = ("gates", "learned", "lengths", "loads", "prefixes", "scraped", "sticky", "warmth")

    def __init__(self) -> None:
        self.loads: dict[str, Load] = {}
        self.learned: dict[str, Learned] = {}
        self.lengths: dict[str, Lengths] = {}
        self.prefixes: dict[str, PrefixTable] = {}
        self.gates: dict[str, Gate] = {}
        self.scraped: dict[str, Scraped] = {}
        self.warmth: dict[str, Warmth] = {}
        self.sticky: dict[str, float | str] = {}

    def load(self, backend: str) -> Load:
        """The load of a backend, zero if it was never seen."""
        found = self.loads.get(backend)
        if found is None:
            found = self.loads[backend] = Load()
        return found

    def corrections(self, key: str) -> Learned:
        """Corrections of a deployment (`BackendView.key`)."""
        found = self.learned.get(key)
        if found is None:
            found = self.learned[key] = Learned()
        return found

    def length(self, model: str) -> Lengths:
        """Learned lengths of a model."""
        found = self.lengths.get(model)
        if found is None:
            found = self.lengths[model] = Lengths()
        return found

    def forget(self, backend: str) -> None:
        """Unlearn a backend that is another one now; what is in flight there still is."""
        self.learned = {key: value for key, value in self.learned.items() if key.split(" ")[0] != backend}
        self.prefixes.pop(backend, None)
        self.gates.pop(backend, None)
        self.scraped.pop(backend, None)
        self.warmth.pop(backend, None)

    def warm(self, backend: str, warm_up_s: float, now_ns: int) -> None:
        """A backend that can be cold is asked, with so much of its warming up left."""
        warm_ns = self.warmth[backend].warm_ns
        if warm_up_s and (warm_ns is None or warm_ns <= now_ns):
            self.prefixes.pop(backend, None)  # whatever it had read before is lost
            warm_ns = now_ns + round(warm_up_s * 1e9)
        self.warmth[backend] = Warmth(warm_ns, now_ns)

    def answers(self, backend: str, now_ns: int) -> bool:
        """A token has come from it: it is warm, however long that was to take. Whether that is news."""
        known = self.warmth.get(backend)
        if known is None or (known.warm_ns is not None and known.warm_ns <= now_ns):
            return False
        self.warmth[backend] = Warmth(now_ns, now_ns)
        return True

    def reserve(self, reservation: Reservation, now_ns: int) -> None:
        """Count a dispatched request as in flight."""
        if reservation.backend in self.warmth:
            self.warm(reservation.backend, reservation.warm_up_s, now_ns)
        self.load(reservation.backend).join(reservation, now_ns)
        if reservation.blocks:
            table = self.prefixes.get(reservation.backend)
            if table is None:
                table = self.prefixes[reservation.backend] = PrefixTable()
            table.dispatched(reservation.blocks, reservation.most_blocks, now_ns)

    def first_token(self, reservation: Reservation, now_ns: int) -> None:
        """Its prompt no longer waits."""
        self.load(reservation.backend).prompt_read(reservation, now_ns)
        if reservation.blocks:
            table = self.prefixes.get(reservation.backend)
            if table is not None:  # it may have been forgotten meanwhile
                table.read(reservation.blocks, now_ns)

    def release(self, reservation: Reservation, now_ns: int) -> None:
        """Give back the sequences (the prompt is given back by `first_token`)."""
        self.load(reservation.backend).leave(reservation)
        if (known := self.warmth.get(reservation.backend)) is not None:
            self.warmth[reservation.backend] = known._replace(used_ns=now_ns)

    def observe(self, outcome: Outcome, now_ns: int) -> None:
        """Learn from how an attempt went. What was sent to a backend that was not warm says nothing of its TTFT."""
        view, prediction = outcome.chosen.view, outcome.chosen.prediction
        learned = self.corrections(view.key)
        if outcome.ttft_s and prediction.prior_ttft_s > 0 and not prediction.warm_up_s:
            learned.learn_ttft(prediction, outcome.ttft_s, now_ns)
        tokens = outcome.completion_tokens or FEWEST_FOR_PACE
        if outcome.tpot_s and prediction.prior_tpot_s > 0 and prediction.decode_s > 0 and tokens >= FEWEST_FOR_PACE:
            reading_s = 0.0 if view.profile.prefill == "parallel" else max(0.0, outcome.reading_s)
            learned.learn_tpot(prediction, outcome.tpot_s, tokens, reading_s, now_ns)
        length = self.length(view.model)
        if outcome.prompt_tokens:
            length.prompt(outcome.prompt_chars, outcome.prompt_tokens)
        if outcome.completion_tokens:
            length.answer(outcome.completion_tokens)  # cut ones too: some clients ask for exactly what they need
        if prediction.cached_tokens and outcome.cached_tokens is not None:
            table = self.prefixes.get(view.name)
            if table is not None and table.trust > 0:
                table.learn(prediction.cached_tokens / table.trust, outcome.cached_tokens)
