"""Two configurations replayed on the same traffic, request by request: who is served elsewhere, and what it comes to.

Both sides see the same arrivals and the same seed. One decision that differs changes what the engines have to do, and
so later ones too: what moves is what the change of configuration causes, not only what it means directly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from app.config.models import EmulatedBackendConfig
from app.replay.records import NOWHERE, Served
from app.replay.runs import Replay, Run, config_of, play
from app.replay.seeds import Interval, interval
from app.replay.workers import calm, deaf, workers

FIGURES = (
    "good", "slo_attainment", "answered", "usd_per_1k_good", "forecast_usd", "token_spend_usd", "effective_usd",
    "bill_with_idle_usd",
)  # fmt: skip

Move = tuple[str | None, str | None]
"""From a backend to another; None = nobody answered."""


class Side(NamedTuple):
    """A configuration on the trace, and the policy that decides there."""

    replay: Replay
    policy: str


class Outcomes:
    """Takes every request of a run as it ends: who answered it, and whether its promises were kept."""

    def __init__(self, backends: Sequence[str]) -> None:
        self._names = backends
        self._by_number: dict[int, tuple[int, bool]] = {}

    def add(self, served: Served) -> None:
        """One request."""
        self._by_number[served.number] = (served.backend, served.good and served.promised)

    def in_order(self) -> Iterable[tuple[str | None, bool]]:
        """By order of arrival: the backend's name, None if nobody answered; and whether every promise was kept."""
        for number in sorted(self._by_number):
            backend, good = self._by_number[number]
            yield (None if backend == NOWHERE else self._names[backend]), good


class Pair(NamedTuple):
    """What one seed says of both sides."""

    requests: int
    moves: Mapping[Move, int]
    gained: int
    lost: int
    old: Mapping[str, float | None]
    new: Mapping[str, float | None]


def pair(old: Side, new: Side, seed: int) -> Pair:
    """Play both sides with one seed.

    Raises: as `play`.
    """
    before, was = _played(old, seed)
    after, is_now = _played(new, seed)
    return paired(was.in_order(), is_now.in_order(), before, after)


def paired(
    was: Iterable[tuple[str | None, bool]],
    is_now: Iterable[tuple[str | None, bool]],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> Pair:
    """Compare two runs of the same requests."""
    moves: Counter[Move] = Counter()
    requests = gained = lost = 0
    for (old_backend, old_good), (new_backend, new_good) in zip(was, is_now, strict=True):
        requests += 1
        gained += new_good and not old_good
        lost += old_good and not new_good
        if old_backend != new_backend:
            moves[old_backend, new_backend] += 1
    return Pair(requests, moves, gained, lost, _figures(before), _figures(after))


def pairs(old: Side, new: Side, seeds: int, jobs: int, done: Callable[[], None]) -> list[Pair]:
    """A pair for each seed, several at a time; `done` is called after each.

    Raises: as `play`.
    """
    if jobs == 1 or seeds == 1:
        calm()
        return list(_each(map(pair, [old] * seeds, [new] * seeds, range(seeds)), done))
    with workers(min(jobs, seeds)) as pool:
        with deaf():
            found = pool.map(pair, [old] * seeds, [new] * seeds, range(seeds))
        return list(_each(found, done))


def difference(found: Sequence[Pair]) -> dict[str, Any]:
    """Means over the seeds with 95 % intervals, differences paired by seed; as JSON."""
    moves = sum((Counter(each.moves) for each in found), Counter[Move]())
    moved = [float(sum(each.moves.values())) for each in found]
    requests = fmean(each.requests for each in found)
    return {
        "requests": requests,
        "moved": {"requests": fmean(moved), "share": fmean(moved) / requests, "ci95": interval(moved)},
        "moves": [
            {"from": source, "to": target, "requests": count / len(found)}
            for (source, target), count in sorted(moves.items(), key=lambda item: (-item[1], str(item[0])))
        ],
        "promises": {
            "gained": fmean(each.gained for each in found),
            "lost": fmean(each.lost for each in found),
        },
        "figures": {name: _figure([(each.old[name], each.new[name]) for each in found]) for name in FIGURES},
    }


def left_out(side: Side) -> list[str]:
    """Its live backends, which cannot be replayed.

    Raises: ConfigError.
    """
    backends = config_of(side.replay.config).config.backends
    return [each.name for each in backends if not isinstance(each, EmulatedBackendConfig)]


def _played(side: Side, seed: int) -> tuple[dict[str, Any], Outcomes]:
    backends = config_of(side.replay.config).config.backends
    outcomes = Outcomes([each.name for each in backends if isinstance(each, EmulatedBackendConfig)])
    return play(side.replay, Run(side.policy, seed), outcomes.add), outcomes


def _figures(summary: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: summary[name] for name in FIGURES}


def _figure(values: Sequence[tuple[float | None, float | None]]) -> dict[str, float | Interval | None]:
    """A figure on both sides; what is unknown of any seed stays so."""
    known = [(old, new) for old, new in values if old is not None and new is not None]
    apart = [new - old for old, new in known] if len(known) == len(values) else []
    return {
        "old": _mean([old for old, _ in values]),
        "new": _mean([new for _, new in values]),
        "difference": fmean(apart) if apart else None,
        "ci95": interval(apart),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _each(found: Iterable[Pair], done: Callable[[], None]) -> Iterable[Pair]:
    for each in found:
        yield each
        done()
