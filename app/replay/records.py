"""What is kept of every request of a replay, and nothing more: a tuple each."""

from __future__ import annotations

from typing import NamedTuple

NOWHERE = -1


class Served(NamedTuple):
    """A request that has ended, well or not. Times in seconds from its arrival, None = there was none.

    `number` is its place in the order of arrival, from 1; `backend` a place in the fleet's order, `NOWHERE` for none;
    `reason` why the decision went there, or the code of the error. `good` says that every promise made to it was kept,
    `promised` that there was any. Money in nano-USD over all attempts: `effective` as billed (None = unpriced),
    `forecast` of owned silicon at reference prices and the true token counts (cached ones free), `spend` on token
    lists. `in_flight` is what was there when it was decided on; `predicted` is (TTFT, its q90, TPOT, its q90), and
    `attempt_ttft_s` what the first is held against.
    """

    number: int
    at_s: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    backend: int
    attempts: int
    ok: bool
    reason: str
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None
    promised: bool
    good: bool
    effective_nusd: int | None
    forecast_nusd: float
    spend_nusd: int
    in_flight: int
    predicted: tuple[float, float, float, float]
    attempt_ttft_s: float | None


class Worked(NamedTuple):
    """What a backend did over a run: seconds of the whole group, requests ended there, and the price of its time."""

    name: str
    substrate: str
    busy_s: float
    idle_s: float
    requests: int
    capacity_usd: float | None
    effective_usd: float
    preemptions: int
    busy_by_slice: tuple[float, ...] = ()
