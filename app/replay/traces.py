"""Traces of real traffic as arrivals in order of time: opened, recognised by what is in them, hashed, spread and cut.

Mooncake's times are ticks of three seconds: where every time is a multiple of one, arrivals are spread evenly within
their tick, by a seeded generator, and sorted. A corrupt line is named and counted, never silently left out.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, cast

from app.metering.ledger import reading
from app.replay.formats import AZURE, PARSERS, Arrival, Format, Row, Skipped, TraceError, recognised

TICK_S = 3.0
HEAD_LINES = 20
NAMED_LINES = 100
"""Skipped lines that are named one by one; all are counted."""
SQLITE = b"SQLite format 3\0"
GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Trace:
    """Arrivals in order of time, the first at 0 s, and what the file was.

    `hash` is of the file's bytes. `corrupt` and `failed` count lines that are no request; `skipped` names the first
    of them.
    """

    name: str
    format: Format
    hash: str
    arrivals: tuple[Arrival, ...]
    corrupt: int = 0
    failed: int = 0
    skipped: tuple[Skipped, ...] = ()

    @property
    def span_s(self) -> float:
        """From the first arrival to the last."""
        return self.arrivals[-1].at_s if self.arrivals else 0.0


def read(path: Path, limit: int | None = None, *, seed: int = 0, strict: bool = False) -> Trace:
    """The first `limit` requests of a trace, plain or .gz; with `strict` the first corrupt line is an error.

    Raises: TraceError; OSError.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        kind, rows = _rows(path)
        return collect(path.name, kind, digest, rows, limit, seed=seed, strict=strict)
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise TraceError(f"{path}: not readable as a trace: {error}") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def collect(
    name: str, kind: Format, digest: str, rows: Iterable[Row], limit: int | None, *, seed: int, strict: bool
) -> Trace:
    """A trace of the rows; those past the limit are not looked at.

    Raises: TraceError.
    """
    arrivals: list[Arrival] = []
    skipped: list[Skipped] = []
    corrupt = failed = 0
    for row in rows:
        if isinstance(row, Arrival):
            arrivals.append(row)
            if len(arrivals) == limit:
                break
            continue
        if strict and not row.failed:
            raise TraceError(f"line {row.line}: {row.reason}")
        corrupt += not row.failed
        failed += row.failed
        if len(skipped) < NAMED_LINES:
            skipped.append(row)
    if not arrivals:
        reason = f" (line {skipped[0].line}: {skipped[0].reason})" if skipped else ""
        raise TraceError(f"there is not one request in it{reason}")
    if kind == "mooncake":
        arrivals = spread(arrivals, seed)
    arrivals.sort(key=lambda arrival: arrival.at_s)
    first_s = arrivals[0].at_s
    if first_s:
        arrivals = [arrival._replace(at_s=arrival.at_s - first_s) for arrival in arrivals]
    return Trace(name, kind, digest, tuple(arrivals), corrupt, failed, tuple(skipped))


def spread(arrivals: list[Arrival], seed: int) -> list[Arrival]:
    """Arrivals spread evenly within their tick, if their times are ticks: the burst at each is an artefact."""
    if len(arrivals) < 2 or any(arrival.at_s % TICK_S for arrival in arrivals):
        return arrivals
    uniform = random.Random(seed).random
    return [arrival._replace(at_s=arrival.at_s + TICK_S * uniform()) for arrival in arrivals]


def _rows(path: Path) -> tuple[Format, Iterator[Row]]:
    """Raises: TraceError where nothing in it is known."""
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP
    if zipped is False and path.suffix == ".gz" and path.stat().st_size:
        raise TraceError("not readable as a trace: its name says .gz, but it is none")
    with _opened(path, zipped) as file:
        if file.read(len(SQLITE)) == SQLITE:
            return "ledger", _ledger(path, zipped)
    with _opened(path, zipped) as binary, io.TextIOWrapper(binary, encoding="utf-8") as lines:
        head = list(islice(lines, HEAD_LINES))
    kind = recognised(head)
    if kind is None:
        raise TraceError(
            f"line 1: expected the columns {','.join(AZURE)}, those of BurstGPT, or JSON lines of Mooncake's or "
            "Turnout's: this is not a trace that is known"
        )
    return kind, PARSERS[kind](_lines(path, zipped))


def _lines(path: Path, zipped: bool) -> Iterator[str]:
    with _opened(path, zipped) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as lines:
        yield from lines


def _opened(path: Path, zipped: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if zipped else path.open("rb")


def _ledger(path: Path, zipped: bool) -> Iterator[Row]:
    if not zipped:
        yield from _ledger_rows(path)
        return
    with tempfile.NamedTemporaryFile(suffix=".sqlite3") as plain, gzip.open(path, "rb") as packed:
        while chunk := packed.read(1 << 20):
            plain.write(chunk)
        plain.flush()
        yield from _ledger_rows(Path(plain.name), frozen=True)


def _ledger_rows(path: Path, *, frozen: bool = False) -> Iterator[Row]:
    try:
        for row in reading.requests(path, frozen=frozen):
            if row.prompt_tokens < 1 or row.completion_tokens < 1:
                yield Skipped(row.row, "failed: no completion tokens", failed=True)
            else:
                yield Arrival(row.arrived_ns / 1e9, row.prompt_tokens, row.completion_tokens, model=row.model)
    except reading.LedgerUnreadable as error:
        raise TraceError(f"not readable as a ledger: {error}") from None
