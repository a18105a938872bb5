"""Reading a ledger back: what was asked of the gateway, in order of arrival. Never writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.errors import TurnoutError

# One row a request: the attempt that was its answer, else the last. SQLite takes the other columns from the row that
# has the maximum.
_REQUESTS = """
SELECT id, wall_ns - CAST(coalesce(e2e_s, 0) * 1e9 AS INTEGER) AS arrived_ns, model,
       prompt_tokens + cached_tokens, completion_tokens + reasoning_tokens,
       max((outcome IN ('ok', 'cached')) * 1000000 + attempt)
FROM requests GROUP BY request_id ORDER BY arrived_ns, id
"""


class LedgerUnreadable(TurnoutError):
    """The file is no ledger, or cannot be read."""


class AskedRequest(NamedTuple):
    """A request as the ledger has it: when it arrived (wall clock) and how long it was, cached tokens included."""

    row: int
    arrived_ns: int
    model: str
    prompt_tokens: int
    completion_tokens: int


def requests(path: Path, *, frozen: bool = False) -> Iterator[AskedRequest]:
    """Every request of a ledger by arrival; `frozen` = nobody writes to the file, and nothing may be made beside it.

    Raises: LedgerUnreadable.
    """
    try:
        mode = "immutable=1" if frozen else "mode=ro"
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)
        try:
            for row in connection.execute(_REQUESTS):
                yield AskedRequest(*row[:5])
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise LedgerUnreadable(str(error)) from error
