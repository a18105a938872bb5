"""One row of the ledger: an attempt at a backend, or a cache hit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from app.metering.cost import CostLines
from backends.types import EngineShare, Usage

RecordOutcome = Literal["ok", "cancelled", "failed", "cached"]


class RequestRecord(NamedTuple):
    """Everything that is known of an attempt when it has ended. None = unknown or not applicable, never zero."""

    request_id: str
    attempt: int
    wall_ns: int
    tenant: str
    endpoint: str
    stream: bool
    model: str
    config_hash: str
    outcome: RecordOutcome
    reason: str
    cache: str
    usage: Usage
    backend: str | None = None
    substrate: str | None = None
    policy: str | None = None
    decision_id: str | None = None
    share: EngineShare | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    predicted_ttft_s: float | None = None
    predicted_tpot_s: float | None = None
    predicted_cost_nusd: float | None = None
    slo_ttft_s: float | None = None
    slo_tpot_s: float | None = None
    slo_e2e_s: float | None = None
    tags: Mapping[str, str] | None = None


class Bill(NamedTuple):
    """The three prices of a record, kept apart: what it cost, what the list says, what the reference would take.

    `effective` is None when the price is unknown. `saved_nusd` is set for cache hits only.
    """

    effective: CostLines | None
    list_price: CostLines | None
    reference: CostLines | None
    saved_nusd: int | None = None


class SharingStatus(NamedTuple):
    """How sharing with other processes goes: whether the store answered the last time, how many processes told of late
    (this one included), and how old the oldest of the others' rows is."""

    up: bool
    processes: int
    oldest_row_s: float
