"""Reading traces of real traffic: who asked when, for how much. Pure parsing; the file is opened here too.

Azure's LLM inference trace (CC-BY, Azure/AzurePublicDataset): CSV, TIMESTAMP,ContextTokens,GeneratedTokens.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


class Arrival(NamedTuple):
    """One request: seconds after the trace's first, and its lengths."""

    at_s: float
    prompt_tokens: int
    completion_tokens: int


class TraceError(Exception):
    """The file is not a trace; the message names the line."""


def read(path: Path, limit: int | None = None) -> list[Arrival]:
    """The first `limit` arrivals of a .csv or .csv.gz.

    Raises: TraceError; OSError.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as lines:
            return list(parse(lines, limit))
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise TraceError(f"{path}: {error}") from None


def parse(lines: Iterable[str], limit: int | None = None) -> Iterator[Arrival]:
    """Raises: TraceError."""
    rows = csv.reader(lines)
    header = next(rows, None)
    if header != COLUMNS:
        raise TraceError(f"line 1: expected the columns {','.join(COLUMNS)}, found {','.join(header or ['nothing'])}")
    first_s: float | None = None
    for count, row in enumerate(rows):
        if limit is not None and count >= limit:
            return
        try:
            stamp, prompt, completion = row
            second, _, fraction = stamp.partition(".")
            at_s = datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
            arrival = int(prompt), int(completion)
        except ValueError as error:
            raise TraceError(f"line {rows.line_num}: {error}") from None
        if arrival[0] < 1 or arrival[1] < 1:
            raise TraceError(f"line {rows.line_num}: lengths must be positive")
        first_s = at_s if first_s is None else first_s
        yield Arrival(at_s - first_s, *arrival)
