"""What a process has learned of deployments, as sums that add up over processes. Pure: no I/O, no clock.

Per deployment, quantity and stratum: how many residuals (fading with age), the sum of their means, and a histogram of
centred residuals in steps of 0.05 (residuals are logarithms). A row is made of own observations alone, never of what
others told, so nothing comes back as news. A row says what profile its residuals are of; another profile's are ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, NamedTuple

from app.routing.residuals import HALF_LIFE_NS, POOL, QUANTILE, RESIDUAL_LIMIT, WINDOW, Prior, Residuals, Stratum
from app.routing.state import Learned, RoutingState, Slowness
from app.routing.types import BackendView, Snapshot
from backends.types import LatencyProfile

VERSION = 1
STEP = 0.05
MICRO = 1e6
MOST = 1 << 40
MOST_STEP = round(2 * RESIDUAL_LIMIT / STEP)
MOST_SAMPLES = 256
QUANTITIES = ("ttft", "tpot")
SLOWNESSES = ("reading", "decoding")


class Sum(NamedTuple):
    """So many residuals, the sum of their means in millionths, and how many lie in each step (sorted pairs)."""

    samples: int = 0
    total_micro: int = 0
    steps: tuple[tuple[int, int], ...] = ()

    def __add__(self, other: Sum) -> Sum:  # type: ignore[override]
        """Both together. Commutative and associative; `Sum()` changes nothing."""
        steps = dict(self.steps)
        for step, count in other.steps:
            steps[step] = steps.get(step, 0) + count
        return Sum(self.samples + other.samples, self.total_micro + other.total_micro, tuple(sorted(steps.items())))

    def prior(self) -> Prior | None:
        """As residuals take it; None of nothing."""
        if not self.samples:
            return None
        count = sum(many for _, many in self.steps)
        rank, q90 = ceil((count + 1) * QUANTILE), 0.0
        for step, many in self.steps:
            q90 = step * STEP
            rank -= many
            if rank <= 0:
                break
        return Prior(self.total_micro / self.samples / MICRO, q90, self.samples)


Row = Mapping[tuple[str, str, str, int], Sum]
"""(deployment, its profile's hash, quantity, stratum) -> sum; of slownesses the stratum is `POOL`."""


def profile_hash(profile: LatencyProfile) -> str:
    """What residuals are relative to."""
    return hashlib.sha256(repr(profile).encode()).hexdigest()[:16]


def own(state: RoutingState, snapshot: Snapshot, now_ns: int) -> Row:
    """What this process has observed itself."""
    row: dict[tuple[str, str, str, int], Sum] = {}
    for view in _views(snapshot):
        learned = state.learned.get(view.key)
        if learned is None:
            continue
        head = (view.key, profile_hash(view.profile))
        for quantity in QUANTITIES:
            residuals: Residuals = getattr(learned, quantity)
            for key, stratum in ((POOL, residuals.pool), *residuals.strata.items()):
                row[(*head, quantity, key)] = _of(stratum, now_ns)
        for quantity in SLOWNESSES:
            slow: Slowness = getattr(learned, quantity)
            samples = min(slow.samples, MOST_SAMPLES)
            row[(*head, quantity, POOL)] = Sum(samples, round(samples * slow.log * MICRO))
    return {key: each for key, each in row.items() if each.samples}


def merged(told: Mapping[str, Row], own_name: str) -> Row:
    """The sum over all processes but this one."""
    total: dict[tuple[str, str, str, int], Sum] = {}
    for process, row in told.items():
        if process != own_name:
            for key, each in row.items():
                total[key] = total.get(key, Sum()) + each
    return total


def faded(row: Row, age_s: float) -> Row:
    """A row that was written that long ago: its residuals count for less, by half every 60 s, as own ones do."""
    left = 2.0 ** (-age_s * 1e9 / HALF_LIFE_NS)
    return {key: Sum(int(each.samples * left), int(each.total_micro * left), each.steps) for key, each in row.items()}


def take(state: RoutingState, snapshot: Snapshot, others: Row) -> None:
    """Others' sums become the priors of what is learned here; what they do not tell of has none."""
    by_deployment: dict[str, dict[tuple[str, str, int], Prior]] = {}
    for (deployment, profile, quantity, stratum), each in others.items():
        if (prior := each.prior()) is not None:
            by_deployment.setdefault(deployment, {})[profile, quantity, stratum] = prior
    for view in _views(snapshot):
        told = by_deployment.get(view.key)
        profile = profile_hash(view.profile) if told else ""
        mine = {key[1:]: prior for key, prior in told.items() if key[0] == profile} if told else {}
        if mine:
            _give(state.corrections(view.key), mine)
        elif view.key in state.learned:
            _give(state.learned[view.key], {})


def encode(row: Row) -> bytes:
    """As it is stored."""
    plain = [[*key, each.samples, each.total_micro, each.steps] for key, each in row.items()]
    return json.dumps({"v": VERSION, "learned": plain}, separators=(",", ":")).encode()


def decode(text: bytes) -> Row | None:
    """What another process told; None for what this version does not understand."""
    try:
        plain = json.loads(text)
        if plain["v"] != VERSION:
            return None
        return {
            (str(deployment), str(profile), str(quantity), _whole(stratum)): Sum(
                _whole(samples, 0),
                _whole(total),
                tuple(sorted((_whole(step, -MOST_STEP, MOST_STEP), _whole(many, 0)) for step, many in steps)),
            )
            for deployment, profile, quantity, stratum, samples, total, steps in plain["learned"]
            if abs(_whole(total)) <= 2 * RESIDUAL_LIMIT * MICRO * max(1, _whole(samples, 0))
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _views(snapshot: Snapshot) -> Iterable[BackendView]:
    return (view for listed in snapshot.views.values() for view in listed)


def _of(stratum: Stratum, now_ns: int) -> Sum:
    samples = int(min(stratum.samples, WINDOW) * stratum.freshness(now_ns))
    steps: dict[int, int] = {}
    for centred in stratum.ranked:
        step = max(-MOST_STEP, min(MOST_STEP, round(centred / STEP)))
        steps[step] = steps.get(step, 0) + 1
    return Sum(samples, round(samples * stratum.centre * MICRO), tuple(sorted(steps.items())))


def _give(learned: Learned, priors: Mapping[tuple[str, int], Prior]) -> None:
    for quantity in QUANTITIES:
        residuals: Residuals = getattr(learned, quantity)
        residuals.share({key: prior for (name, key), prior in priors.items() if name == quantity})
    for quantity in SLOWNESSES:
        slow: Slowness = getattr(learned, quantity)
        slow.share(priors.get((quantity, POOL)))


def _whole(value: Any, least: int = -MOST, most: int = MOST) -> int:
    """Raises: ValueError."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError("not a whole number that can be")
    return value
