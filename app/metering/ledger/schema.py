"""The ledger's tables. Rows are only ever inserted; money is integer nano-USD; null means unknown, never zero."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain

import msgspec

from app.metering.types import Bill, RequestRecord

VERSION = 1

CREATE = """
CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY,
    wall_ns INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    stream INTEGER NOT NULL,
    model TEXT NOT NULL,
    backend TEXT,
    substrate TEXT,
    policy TEXT,
    decision_id TEXT,
    config_hash TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    cache TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    prompt_engine_ns INTEGER,
    completion_engine_ns INTEGER,
    cost_nusd INTEGER,
    prompt_nusd INTEGER,
    cached_nusd INTEGER,
    completion_nusd INTEGER,
    reasoning_nusd INTEGER,
    request_nusd INTEGER,
    list_nusd INTEGER,
    reference_nusd INTEGER,
    saved_nusd INTEGER,
    ttft_s REAL,
    tpot_s REAL,
    e2e_s REAL,
    predicted_ttft_s REAL,
    predicted_tpot_s REAL,
    predicted_cost_nusd REAL,
    slo_ttft_s REAL,
    slo_tpot_s REAL,
    slo_e2e_s REAL,
    tags TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (wall_ns);
"""

COLUMNS = [
    "wall_ns",
    "request_id",
    "attempt",
    "tenant",
    "endpoint",
    "stream",
    "model",
    "backend",
    "substrate",
    "policy",
    "decision_id",
    "config_hash",
    "outcome",
    "reason",
    "cache",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "prompt_engine_ns",
    "completion_engine_ns",
    "cost_nusd",
    "prompt_nusd",
    "cached_nusd",
    "completion_nusd",
    "reasoning_nusd",
    "request_nusd",
    "list_nusd",
    "reference_nusd",
    "saved_nusd",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "predicted_ttft_s",
    "predicted_tpot_s",
    "predicted_cost_nusd",
    "slo_ttft_s",
    "slo_tpot_s",
    "slo_e2e_s",
    "tags",
]
_PLACEHOLDERS = "(" + ", ".join("?" * len(COLUMNS)) + ")"


def _insert_statement(rows: int) -> str:
    columns, values = ", ".join(COLUMNS), ", ".join([_PLACEHOLDERS] * rows)
    return f"INSERT INTO requests ({columns}) VALUES {values}"  # noqa: S608 - column names of ours and placeholders


STATEMENT_ROWS = 50
"""Rows a statement inserts. sqlite3 gives the interpreter up at each statement, and a thread beside a busy one gets it
back only after a switch interval: row by row, a gateway under load wrote more slowly than it served."""

_INSERT_ONE, _INSERT_MANY = _insert_statement(1), _insert_statement(STATEMENT_ROWS)


def insert(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows, each as `row` makes them, in as few statements as pays.

    Raises: sqlite3.Error.
    """
    whole = len(rows) - len(rows) % STATEMENT_ROWS
    for begin in range(0, whole, STATEMENT_ROWS):
        connection.execute(_INSERT_MANY, list(chain.from_iterable(rows[begin : begin + STATEMENT_ROWS])))
    connection.executemany(_INSERT_ONE, rows[whole:])


def row(record: RequestRecord, bill: Bill) -> tuple[object, ...]:
    """A record and its bill in the order of `COLUMNS`."""
    usage, share, cost = record.usage, record.share, bill.effective
    lines: tuple[int | None, ...] = (None,) * 6
    if cost is not None:
        lines = (
            cost.total_nusd,
            cost.prompt_nusd,
            cost.cached_nusd,
            cost.completion_nusd,
            cost.reasoning_nusd,
            cost.request_nusd,
        )
    return (
        record.wall_ns,
        record.request_id,
        record.attempt,
        record.tenant,
        record.endpoint,
        int(record.stream),
        record.model,
        record.backend,
        record.substrate,
        record.policy,
        record.decision_id,
        record.config_hash,
        record.outcome,
        record.reason,
        record.cache,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        usage.reasoning_tokens,
        None if share is None else share.prompt_ns,
        None if share is None else share.completion_ns,
        *lines,
        None if bill.list_price is None else bill.list_price.total_nusd,
        None if bill.reference is None else bill.reference.total_nusd,
        bill.saved_nusd,
        record.ttft_s,
        record.tpot_s,
        record.e2e_s,
        record.predicted_ttft_s,
        record.predicted_tpot_s,
        record.predicted_cost_nusd,
        record.slo_ttft_s,
        record.slo_tpot_s,
        record.slo_e2e_s,
        None if not record.tags else msgspec.json.encode(record.tags).decode(),
    )
