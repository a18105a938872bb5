"""Reading traces: exact offsets and lengths, or an error that names the line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from app.cli.trace import Arrival, TraceError, parse, read

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


def test_offsets_count_from_the_first_line_and_cross_midnight() -> None:
    rows = [HEADER, "2023-11-16 23:59:59.7500000,374,44", "2023-11-17 00:00:00.2500000,1,2", "2023-11-17 00:00:01,3,4"]
    arrivals = list(parse(rows))
    assert [round(arrival.at_s, 6) for arrival in arrivals] == [0.0, 0.5, 1.25]
    assert arrivals[0] == Arrival(0.0, 374, 44)


def test_lines_past_the_limit_are_not_looked_at() -> None:
    assert len(list(parse([HEADER, "2023-11-16 18:15:46.68,1,2", "nonsense"], limit=1))) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2023-11-16 18:15:46.68,x,4", "line 3: invalid literal"),
        ("2023-11-16 18:15:46.68,3", "line 3: expected 3 values, found 2"),
        ("2023-11-16 18:15:46.68,3,4,5", "line 3: expected 3 values, found 4"),
        ("", "line 3: expected 3 values, found 0"),
        ("2023-11-16 18:15:46.6e9,3,4", "line 3: .* is not a time"),
        ("yesterday,3,4", "line 3: Invalid isoformat"),
        ("2023-11-16 18:15:46.68,0,4", "line 3: lengths must be positive"),
        ("2023-11-16 18:15:46.68,3,-4", "line 3: lengths must be positive"),
        ("2023-11-16 18:15:45,3,4", "line 3: earlier than the line before"),
        ("x" * 200_000, "line 3: field larger than"),
    ],
)
def test_a_malformed_line_is_named(line: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        list(parse([HEADER, "2023-11-16 18:15:46.68,3,4", line]))


@pytest.mark.parametrize("rows", [[], ["a,b"], ["ContextTokens,TIMESTAMP,GeneratedTokens"]])
def test_other_columns_are_refused(rows: list[str]) -> None:
    with pytest.raises(TraceError, match="line 1: expected the columns TIMESTAMP"):
        list(parse(rows))


def test_files_that_are_broken_say_so(tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + "\n" + "2023-11-16 18:15:46,3,4\n" * 2000).encode())
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(whole)
    assert len(read(path)) == 2000
    damaged = whole[:14] + bytes([whole[14] ^ 0xFF, whole[15] ^ 0xFF]) + whole[16:]
    for content in (whole[: len(whole) // 2], damaged, b"not gzip", b""):
        path.write_bytes(content)
        with pytest.raises(TraceError, match=r"trace\.csv\.gz: "):
            read(path)
    plain = tmp_path / "trace.csv"
    plain.write_bytes(b"\xff\xfe")
    with pytest.raises(TraceError, match="line 1: 'utf-8' codec"):
        read(plain)
