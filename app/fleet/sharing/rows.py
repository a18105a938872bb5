"""What a process tells of its load, and how others' rows are merged. Pure: no I/O, no clock.

A row has one writer and is replaced whole; whoever reads adds up the rows of distinct other processes. Counts are
integers (tokens, microseconds), so that the order in which rows come changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from app.routing.state import READING_TAU_NS, Load, Others, RoutingState

VERSION = 1
MOST = 1 << 52
"""No honest count is larger; more would not survive JSON everywhere."""


class Share(NamedTuple):
    """A process's load at one backend: sequences, context tokens, tokens of prompts without a first token, microseconds
    of prompts sent of late, and the tightest pace promised (microseconds, None = none)."""

    sequences: int = 0
    resident_tokens: int = 0
    prompt_tokens: int = 0
    reading_us: int = 0
    tightest_us: int | None = None

    def __add__(self, other: Share) -> Share:  # type: ignore[override]
        """Both together. Commutative and associative; `Share()` changes nothing."""
        return Share(
            self.sequences + other.sequences,
            self.resident_tokens + other.resident_tokens,
            self.prompt_tokens + other.prompt_tokens,
            self.reading_us + other.reading_us,
            min((each for each in (self.tightest_us, other.tightest_us) if each is not None), default=None),
        )

    def others(self) -> Others:
        """As the predictor takes it."""
        tightest_s = None if self.tightest_us is None else self.tightest_us / 1e6
        return Others(self.sequences, self.resident_tokens, self.prompt_tokens, self.reading_us / 1e6, tightest_s)


class Warm(NamedTuple):
    """That a backend is warm, or when it will be, and when it was last used, in wall-clock milliseconds."""

    warm_ms: int
    used_ms: int

    def __add__(self, other: Warm) -> Warm:  # type: ignore[override]
        """What two processes know of it together. Commutative and associative."""
        return Warm(min(self.warm_ms, other.warm_ms), max(self.used_ms, other.used_ms))


class Row(NamedTuple):
    """All that a process tells every interval, by backend: its load, until when (wall-clock milliseconds) its breakers
    are open, and which of those that can be cold are not."""

    loads: Mapping[str, Share]
    open_until_ms: Mapping[str, int]
    warm: Mapping[str, Warm] = MappingProxyType({})


def share(load: Load, now_ns: int) -> Share:
    """This process's own part; never what others told it."""
    faded = READING_TAU_NS / (READING_TAU_NS + now_ns - load.reading_ns)
    tightest_s = load.tightest_tpot_slo_s
    return Share(
        max(0, load.sequences),
        max(0, load.resident_tokens),
        max(0, load.pending_prompt_tokens),
        int(load.reading_s * faded * 1e6),
        None if tightest_s is None else int(tightest_s * 1e6),
    )


def own_row(
    state: RoutingState,
    backends: Iterable[str],
    open_until_ms: Mapping[str, int],
    now_ns: int,
    warm: Mapping[str, Warm] = MappingProxyType({}),
) -> Row:
    """The row of this process; idle backends need no word."""
    loads = {name: share(state.loads[name], now_ns) for name in backends if name in state.loads}
    return Row({name: each for name, each in loads.items() if each != Share()}, open_until_ms, warm)


def encode(row: Row) -> bytes:
    """As it is stored."""
    plain = {"v": VERSION, "loads": row.loads, "open": row.open_until_ms, "warm": dict(row.warm)}
    return json.dumps(plain, separators=(",", ":")).encode()


def decode(text: bytes) -> Row | None:
    """What another process told; None for what this version does not understand, as if it were not there."""
    try:
        plain = json.loads(text)
        if plain["v"] != VERSION:
            return None
        loads = {str(name): _share(each) for name, each in plain["loads"].items()}
        warm = {str(name): Warm(*map(_count, each)) for name, each in plain.get("warm", {}).items()}
        return Row(loads, {str(name): _count(until_ms) for name, until_ms in plain["open"].items()}, warm)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def merged(rows: Mapping[str, Row], own: str) -> Row:
    """The sum over all processes but this one, the latest time a breaker is open until, the earliest a backend is warm
    and the latest it was used."""
    loads: dict[str, Share] = {}
    open_until_ms: dict[str, int] = {}
    warm: dict[str, Warm] = {}
    for process, row in rows.items():
        if process == own:
            continue
        for name, each in row.loads.items():
            loads[name] = loads.get(name, Share()) + each
        for name, until_ms in row.open_until_ms.items():
            open_until_ms[name] = max(until_ms, open_until_ms.get(name, 0))
        for name, known in row.warm.items():
            warm[name] = warm[name] + known if name in warm else known
    return Row(loads, open_until_ms, warm)


def _share(plain: Any) -> Share:
    """Raises: ValueError; TypeError."""
    *counts, tightest_us = plain
    sequences, resident_tokens, prompt_tokens, reading_us = map(_count, counts)
    tightest = None if tightest_us is None else max(1, _count(tightest_us))
    return Share(sequences, resident_tokens, prompt_tokens, reading_us, tightest)


def _count(value: Any) -> int:
    """Raises: ValueError."""
    if type(value) is not int or not 0 <= value <= MOST:
        raise ValueError("no count")
    return value
