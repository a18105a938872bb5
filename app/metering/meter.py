"""One call when an attempt or a cache hit has ended: bill it, count it, write it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from app.metering.cost import (
    FREE,
    KINDS,
    ChipHourRates,
    CostLines,
    Rates,
    TokenRates,
    bill_engine,
    bill_tokens,
    forecast_bill,
)
from app.metering.metrics import Metrics
from app.metering.types import Bill, RequestRecord
from app.routing.types import CostForecast


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Rates of each backend, and the forecast of each model's reference backend."""

    rates: Mapping[str, Rates]
    references: Mapping[str, CostForecast]


class Rows(Protocol):
    """Where records go with their bills (`ledger.Ledger`, or the books of a replay)."""

    def append(self, record: RequestRecord, bill: Bill) -> None: ...


class Meter:
    """Bills records exactly once; holds the remainder of each chip-hour backend between bills."""

    def __init__(
        self, prices: PriceTable, metrics: Metrics, ledger: Rows, carries: dict[str, int] | None = None
    ) -> None:
        """`carries` are the remainders by backend, shared with the meters of configurations before and after."""
        self._prices = prices
        self._metrics = metrics
        self._ledger = ledger
        self._carries = {} if carries is None else carries

    def record(self, record: RequestRecord) -> Bill:
        """Bill an attempt by what it used, whichever way it ended."""
        bill = self._bill(record)
        self._count(record, bill)
        self._ledger.append(record, bill)
        return bill

    def record_hit(self, record: RequestRecord, saved_nusd: int | None, kind: str) -> Bill:
        """A cache hit: costs nothing, records what it saved."""
        bill = Bill(FREE, None, None, saved_nusd)
        metrics = self._metrics
        if saved_nusd is not None:
            metrics.cache_saved.add((kind, record.model), saved_nusd)
        metrics.cache_saved_tokens.add((kind, record.model), record.usage.completion_tokens)
        self._ledger.append(record, bill)
        return bill

    def _bill(self, record: RequestRecord) -> Bill:
        backend = record.backend
        assert backend is not None
        rates = self._prices.rates.get(backend)
        reference = self._prices.references.get(record.model)
        reference_lines = None if reference is None else forecast_bill(reference, record.usage)
        effective: CostLines | None = None
        list_price: CostLines | None = None
        if isinstance(rates, TokenRates):
            effective = list_price = bill_tokens(rates, record.usage)
        elif isinstance(rates, ChipHourRates) and record.share is not None:
            effective, self._carries[backend] = bill_engine(rates, record.share, self._carries.get(backend, 0))
        return Bill(effective, list_price, reference_lines)

    def _count(self, record: RequestRecord, bill: Bill) -> None:
        metrics = self._metrics
        backend, substrate = record.backend or "", record.substrate or ""
        labels = (record.model, backend, substrate, metrics.tenant(record.tenant))
        usage = record.usage
        for kind, tokens in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if tokens:
                metrics.tokens.add((*labels, kind), tokens)
        for cells, lines in (
            (metrics.cost, bill.effective),
            (metrics.list_cost, bill.list_price),
            (metrics.reference_cost, bill.reference),
        ):
            if lines is not None:
                for kind, nusd in zip(KINDS, lines, strict=True):
                    if nusd:
                        cells.add((*labels, kind), nusd)
        if bill.effective is None:
            metrics.unpriced.add((record.model, backend))
        elif record.outcome != "ok":
            reason = (
                "hedge" if record.reason == "hedge" else "client_gone" if record.outcome == "cancelled" else "failed"
            )
            metrics.wasted.add((backend, reason), bill.effective.total_nusd)
