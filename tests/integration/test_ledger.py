"""The ledger on a real disk: nothing lost on close, nothing silent when it cannot write."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from app.metering.cost import CostLines
from app.metering.ledger import schema
from app.metering.ledger.ledger import WAIT_S, Ledger, LedgerUnusable
from app.metering.types import Bill, RequestRecord
from backends.types import EngineShare, Usage
from tests.gateways import Addresses, serving


def record(number: int = 0, **fields: object) -> RequestRecord:
    values = dict.fromkeys(RequestRecord._fields) | {
        "request_id": f"r{number}",
        "attempt": 1,
        "wall_ns": number,
        "tenant": "default",
        "endpoint": "chat",
        "stream": False,
        "model": "m",
        "config_hash": "c",
        "outcome": "ok",
        "reason": "cheapest_feasible",
        "cache": "off",
        "usage": Usage(1, 2, 3, 4),
        "share": EngineShare(5, 6),
        "tags": {"k": "v"},
    }
    return RequestRecord(**(values | fields))  # type: ignore[arg-type]


BILL = Bill(CostLines(1, 2, 3, 4, 5), None, CostLines(7))


def rows(path: Path, query: str = "SELECT * FROM requests") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


async def test_a_row_keeps_everything(path: Path) -> None:
    ledger = Ledger(path, 10, 500, 1000)
    ledger.start()
    ledger.append(record(7), BILL)
    ledger.append(record(8), Bill(None, None, None))
    await ledger.flush()
    assert ledger.waiting_rows == 0
    names = ", ".join(schema.COLUMNS)
    first, second = rows(path, f"SELECT {names} FROM requests ORDER BY id")
    kept = dict(zip(schema.COLUMNS, first, strict=True))
    assert (kept["cost_nusd"], kept["prompt_nusd"], kept["request_nusd"], kept["reference_nusd"]) == (15, 1, 5, 7)
    assert (kept["prompt_tokens"], kept["reasoning_tokens"], kept["prompt_engine_ns"]) == (1, 4, 5)
    assert kept["list_nusd"] is None
    assert kept["tags"] == '{"k":"v"}'
    assert dict(zip(schema.COLUMNS, second, strict=True))["cost_nusd"] is None, "unpriced is null, never zero"
    await ledger.aclose()


async def test_closing_loses_nothing(path: Path) -> None:
    ledger = Ledger(path, 60, 50, 100_000)
    ledger.start()
    for number in range(1234):
        ledger.append(record(number), BILL)
    await ledger.aclose()
    await ledger.aclose()
    assert rows(path, "SELECT count(*), sum(cost_nusd) FROM requests") == [(1234, 1234 * 15)]


async def test_many_rows_take_few_statements_and_keep_their_order(path: Path) -> None:
    ledger = Ledger(path, 10, 500, 1000)
    ledger.start()
    await ledger.aclose()
    statements: list[str] = []
    count = schema.STATEMENT_ROWS * 2 + 7
    with closing(sqlite3.connect(path)) as connection:
        connection.set_trace_callback(statements.append)
        schema.insert(connection, [schema.row(record(number), BILL) for number in range(count)])
        connection.commit()
    assert sum(statement.startswith("INSERT") for statement in statements) == 2 + 7
    assert [number for (number,) in rows(path, "SELECT wall_ns FROM requests ORDER BY id")] == list(range(count))


async def test_a_row_that_no_table_can_take_is_dropped_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dropped: list[int] = []
    ledger = Ledger(path, 10, 500, 1000, dropped=lambda: dropped.append(1))
    ledger.start()
    for number in range(5):
        ledger.append(record(number), Bill(CostLines(2**70 if number == 2 else 1), None, None))
    await ledger.flush()
    assert rows(path, "SELECT wall_ns FROM requests ORDER BY id") == [(0,), (1,), (3,), (4,)]
    assert dropped == [1]
    assert "cannot be written" in caplog.text
    ledger.append(record(9), BILL)
    await ledger.aclose()
    assert rows(path, "SELECT count(*) FROM requests") == [(5,)]


async def test_rows_are_written_within_the_flush_interval(path: Path) -> None:
    ledger = Ledger(path, 0.05, 500, 1000)
    ledger.start()
    ledger.append(record(), BILL)
    deadline_s = time.monotonic() + 5
    while not rows(path):
        assert time.monotonic() < deadline_s
    await ledger.aclose()


async def test_a_full_queue_drops_counts_and_says_so_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dropped: list[None] = []
    ledger = Ledger(path, 60, 500, 10, dropped=lambda: dropped.append(None))
    with caplog.at_level(logging.ERROR, "turnout.ledger"):
        for number in range(15):
            ledger.append(record(number), BILL)
    assert len(dropped) == 5
    assert len(caplog.records) == 1
    ledger.start()
    await ledger.aclose()
    assert len(rows(path)) == 10


async def test_a_locked_file_keeps_rows_queued_until_it_is_free(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(path, 0.02, 500, 1000)
    ledger.start()
    with closing(sqlite3.connect(path)) as other, caplog.at_level(logging.INFO, "turnout.ledger"):
        other.execute("BEGIN EXCLUSIVE")
        ledger.append(record(), BILL)
        deadline_s = time.monotonic() + 10
        while not caplog.records:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.01)
        assert ledger.waiting_rows == 1
        other.rollback()
        while ledger.waiting_rows:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.01)
    await ledger.aclose()
    assert len(rows(path)) == 1
    assert [item.levelname for item in caplog.records] == ["ERROR", "INFO"]


async def test_closing_waits_for_whoever_holds_the_file(path: Path) -> None:
    ledger = Ledger(path, 60, 500, 1000)
    ledger.start()
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        ledger.append(record(), BILL)
        await ledger.flush()  # returns when the file has refused it
        assert ledger.waiting_rows == 1
        ended = asyncio.create_task(ledger.aclose())
        done, _ = await asyncio.wait([ended], timeout=2 * WAIT_S)
        assert not done, "it gave up as if there were another time"
        other.rollback()
        await ended
    assert len(rows(path)) == 1


async def test_two_gateways_may_write_one_file_and_leave_it_in_any_order(tmp_path: Path) -> None:
    config = tmp_path / "turnout.yaml"
    config.write_text(f"version: 1\nextends: shipped\ncache: {{type: off}}\nledger: {{path: {tmp_path / 'both'}}}\n")
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()

    async def ask(at: Addresses, count: int) -> list[str]:
        async def one(client: httpx.AsyncClient, number: int) -> str:
            body = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": f"{number}"}], "max_tokens": 2}
            answer = await client.post(f"{at.url}/v1/chat/completions", json=body)
            assert answer.status_code == 200
            return str(answer.headers["x-request-id"])

        async with httpx.AsyncClient(timeout=60) as client:
            return list(await asyncio.gather(*(one(client, number) for number in range(count))))

    with serving(folders[0], config) as first:
        with serving(folders[1], config) as second:
            asked = [name for listed in await asyncio.gather(ask(first, 60), ask(second, 60)) for name in listed]
        asked += await ask(first, 20)
    assert sorted(str(row[0]) for row in rows(tmp_path / "both", "SELECT request_id FROM requests")) == sorted(asked)
    assert rows(tmp_path / "both", "PRAGMA integrity_check") == [("ok",)]
    assert rows(tmp_path / "both", "SELECT version FROM schema_version") == [(schema.VERSION,)]


def open_at_once(folder: str, barrier: threading.Barrier, files: int) -> None:
    """A process of its own: opens new files at the same moments as its peers, and writes a row into each."""
    for number in range(files):
        ledger = Ledger(Path(folder) / str(number), 1, 500, 1000)
        barrier.wait(30)
        ledger.start()
        ledger.append(record(), BILL)
        asyncio.run(ledger.aclose())


def test_a_new_file_that_processes_open_at_once_is_one_ledger(tmp_path: Path) -> None:
    peers, files = 4, 20
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(peers)
    processes = [context.Process(target=open_at_once, args=(str(tmp_path), barrier, files)) for _ in range(peers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * peers
    for number in range(files):
        path = tmp_path / str(number)
        assert rows(path, "SELECT version FROM schema_version") == [(schema.VERSION,)]
        assert rows(path, "SELECT count(*) FROM requests") == [(peers,)]


async def test_reopening_appends(path: Path) -> None:
    for _ in range(2):
        ledger = Ledger(path, 1, 500, 1000)
        ledger.start()
        ledger.append(record(), BILL)
        await ledger.aclose()
    assert len(rows(path)) == 2


def test_a_file_of_another_kind_or_version_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, and it is long enough to be looked at as one" * 20)
    with pytest.raises(LedgerUnusable):
        Ledger(tmp_path / "text", 1, 1, 1).start()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema.CREATE + "INSERT INTO schema_version VALUES (999);")
    with pytest.raises(LedgerUnusable, match="schema version 999"):
        Ledger(path, 1, 1, 1).start()
    with pytest.raises(LedgerUnusable):
        Ledger(tmp_path / "no" / "such" / "folder.sqlite3", 1, 1, 1).start()
