"""Rows in, off the hot path: `append` is a list append, a thread of its own writes batches to SQLite (WAL).

Several processes on one machine may write to one file: SQLite lets one in at a time, and each has its own rows.
A crash loses at most one flush interval. A closed ledger has lost nothing. A full queue drops rows, counts them and
says so; a disk that cannot be written keeps rows queued, says so once, and says so once more when it can again. A row
that no table could take (an integer beyond 64 bits, say) is dropped, counted and said, and the others are written.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from app.errors import StartupError
from app.metering.ledger import schema
from app.metering.types import Bill, RequestRecord

IMPOSSIBLE_ROW = (
    sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError,
    OverflowError, TypeError, ValueError,
)  # fmt: skip

WAIT_S, LAST_WAIT_S = 1.0, 10.0
"""How long a file is waited for that another process holds; and how long when it is now or never: to open, to close."""
RETRY_S = 0.02

log = logging.getLogger("turnout.ledger")


class LedgerUnusable(StartupError):
    """The file cannot be opened as a ledger of this version."""


class Ledger:
    """An append-only table of requests."""

    def __init__(
        self,
        path: Path,
        flush_interval_s: float,
        batch_rows: int,
        queue_rows: int,
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._flush_interval_s = flush_interval_s
        self._batch_rows = batch_rows
        self._queue_rows = queue_rows
        self._dropped = dropped
        self._queue: deque[tuple[RequestRecord, Bill]] = deque()
        self._wake = threading.Event()
        self._passed = threading.Event()
        self._closing = False
        self._failing = False
        self._overflowing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the file, creating or checking its schema, and begin writing.

        Raises: LedgerUnusable.
        """
        try:
            connection = sqlite3.connect(self._path, check_same_thread=False, timeout=LAST_WAIT_S)
            _prepare(connection)
            _wait(connection, WAIT_S)
        except sqlite3.Error as error:
            raise LedgerUnusable(f"{self._path}: {error}") from error
        self._thread = threading.Thread(target=self._run, args=(connection,), name="turnout-ledger", daemon=True)
        self._thread.start()

    def append(self, record: RequestRecord, bill: Bill) -> None:
        """Take a row; never blocks."""
        queue = self._queue
        if len(queue) >= self._queue_rows:
            self._dropped()
            if not self._overflowing:
                self._overflowing = True
                log.error("ledger queue full (%d rows): rows are being dropped", self._queue_rows)
            return
        queue.append((record, bill))
        if len(queue) == self._batch_rows:
            self._wake.set()

    async def flush(self) -> None:
        """Return once everything appended so far is in the file, or the file has refused it."""
        while self._queue and not self._failing and self._thread is not None and self._thread.is_alive():
            self._passed.clear()
            self._wake.set()
            await asyncio.to_thread(self._passed.wait, self._flush_interval_s)

    async def aclose(self) -> None:
        """Write out what is left and close the file. Idempotent."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(thread.join)
        if self._queue:
            log.error("ledger closed with %d rows that could not be written", len(self._queue))

    @property
    def waiting_rows(self) -> int:
        """Rows taken and not yet in the file."""
        return len(self._queue)

    def _run(self, connection: sqlite3.Connection) -> None:
        while True:
            self._wake.wait(self._flush_interval_s)
            self._wake.clear()
            closing = self._closing
            if closing:
                _wait(connection, LAST_WAIT_S)
            self._write_all(connection)
            self._passed.set()
            if closing:
                break
        connection.close()

    def _write_all(self, connection: sqlite3.Connection) -> None:
        """Write every queued row, a batch a transaction; stop at the first refusal."""
        while self._queue:
            batch = list(islice(self._queue, self._batch_rows))
            try:
                self._write(connection, batch)
            except sqlite3.Error as error:
                if not self._failing:
                    self._failing = True
                    log.error("ledger cannot be written (%s): rows stay queued", error)
                return
            for _ in batch:
                self._queue.popleft()
            if self._failing:
                self._failing = False
                log.info("ledger is being written again")
            self._overflowing = False

    def _write(self, connection: sqlite3.Connection, batch: Sequence[tuple[RequestRecord, Bill]]) -> None:
        """Write a batch; if one of its rows is impossible, write them one by one without it.

        Raises: sqlite3.Error when the file cannot be written.
        """
        try:
            with connection:
                schema.insert(connection, [schema.row(record, bill) for record, bill in batch])
        except IMPOSSIBLE_ROW as error:
            if len(batch) == 1:
                self._dropped()
                log.error("a ledger row cannot be written (%s), it is dropped: %r", error, batch[0])
                return
            for entry in batch:
                self._write(connection, [entry])


def _prepare(connection: sqlite3.Connection) -> None:
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.executescript(schema.CREATE)
    with connection:  # one statement: of processes that open a new file at the same time, one writes the version
        connection.execute(
            "INSERT INTO schema_version SELECT ? WHERE NOT EXISTS (SELECT 1 FROM schema_version)", (schema.VERSION,)
        )
    found = connection.execute("SELECT version FROM schema_version").fetchone()
    if found[0] != schema.VERSION:
        raise sqlite3.DatabaseError(f"schema version {found[0]}, this program writes {schema.VERSION}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Of processes that switch a new file to WAL at the same time, SQLite refuses all but one at once, without waiting.

    Raises: sqlite3.Error.
    """
    for left in reversed(range(round(LAST_WAIT_S / RETRY_S))):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or not left:
                raise
            time.sleep(RETRY_S)
        else:
            return


def _wait(connection: sqlite3.Connection, for_s: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {round(for_s * 1000)}")
