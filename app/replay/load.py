"""More or less traffic of the same kind: copies of a trace laid over each other, or a part of it. Never squeezed time.

A load of 2.4 is the trace, a copy of it shifted in time (cyclically, by a drawn amount) and 40 % of another such copy.
What lies beyond a factor of 1 keeps the burstiness of real traffic as a larger crowd of independent users has it.
Blocks of a copy have names of their own: it stands for other conversations, not for the same ones again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from app.replay.formats import Arrival

COPY_STRIDE = 1 << 44
"""Between the names of a copy's blocks and the next one's."""


def scaled(arrivals: Sequence[Arrival], load: float, seed: int) -> list[Arrival]:
    """Arrivals at `load` times the trace's rate, in order of time; the same seed gives the same."""
    rng = random.Random(f"load:{seed}")
    span_s = span(arrivals)
    rows: list[Arrival] = []
    number, left = 0, load
    while left > 1e-9:
        share = min(1.0, left)
        shift_s = rng.random() * span_s if number else 0.0
        kept = arrivals if share == 1.0 else [arrival for arrival in arrivals if rng.random() < share]
        rows += kept if number == 0 else [_shifted(arrival, shift_s, span_s, number) for arrival in kept]
        number += 1
        left -= share
    rows.sort(key=lambda arrival: arrival.at_s)
    return rows


def span(arrivals: Sequence[Arrival]) -> float:
    """The period in which a trace repeats, in seconds: first to last arrival, and a mean gap more."""
    if len(arrivals) < 2:
        return 1.0
    return (arrivals[-1].at_s - arrivals[0].at_s) * len(arrivals) / (len(arrivals) - 1) or 1.0


def _shifted(arrival: Arrival, shift_s: float, span_s: float, number: int) -> Arrival:
    blocks = arrival.blocks
    if blocks:
        own = COPY_STRIDE * number
        blocks = tuple([block + own for block in blocks])
    return arrival._replace(at_s=(arrival.at_s + shift_s) % span_s, blocks=blocks)
