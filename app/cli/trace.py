"""Reading traces of real traffic: who asked when, for how much. Pure parsing; the file is opened here too.

Azure's LLM inference trace (CC-BY, Azure/AzurePublicDataset): CSV, TIMESTAMP,ContextTokens,GeneratedTokens.
"""

from __future__ import annotations

import csv
import gzip
import zlib
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
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise TraceError(f"{path}: not readable as a trace: {error}") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def parse(lines: Iterable[str], limit: int | None = None) -> Iterator[Arrival]:
    """Raises: TraceError, naming the line."""
    rows = csv.reader(lines)
    first_s = last_s = 0.0
    try:
        header = next(rows, ["nothing"])
        if header != COLUMNS:
            raise ValueError(f"expected the columns {','.join(COLUMNS)}, found {','.join(header)}")
        for count, row in enumerate(rows):
            if limit is not None and count >= limit:
                return
            at_s, prompt_tokens, completion_tokens = _arrival(row)
            if count == 0:
                first_s = last_s = at_s
            if at_s < last_s:
                raise ValueError("earlier than the line before it")
            last_s = at_s
            yield Arrival(at_s - first_s, prompt_tokens, completion_tokens)
    except (ValueError, csv.Error) as error:
        raise TraceError(f"line {max(1, rows.line_num)}: {error}") from None


def _arrival(row: list[str]) -> Arrival:
    """One line, its time in seconds since 1970. Azure writes seven digits after the point."""
    if len(row) != len(COLUMNS):
        raise ValueError(f"expected {len(COLUMNS)} values, found {len(row)}")
    second, _, fraction = row[0].partition(".")
    if fraction and not fraction.isdecimal():
        raise ValueError(f"'{row[0]}' is not a time")
    at_s = datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
    prompt_tokens, completion_tokens = int(row[1]), int(row[2])
    if prompt_tokens < 1 or completion_tokens < 1:
        raise ValueError("lengths must be positive")
    return Arrival(at_s, prompt_tokens, completion_tokens)
