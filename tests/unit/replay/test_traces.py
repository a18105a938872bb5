"""Reading traces: exact offsets and lengths, and no line that is left out without a word."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from pathlib import Path

import pytest

from app.metering.cost import FREE
from app.metering.ledger.ledger import Ledger
from app.metering.types import Bill, RecordOutcome, RequestRecord
from app.replay.formats import Arrival, Row, Skipped, TraceError, azure, burstgpt, mooncake, recognised, turnout
from app.replay.traces import Trace, read, spread
from backends.types import Usage

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
MOONCAKE = {"timestamp": 3000, "input_length": 1100, "output_length": 5, "hash_ids": [0, 7, 9]}
OWN = {"at_s": 1.5, "prompt_tokens": 3, "completion_tokens": 4}


def written(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_offsets_count_from_the_first_line_and_cross_midnight() -> None:
    rows = [AZURE, "2023-11-16 23:59:59.7500000,374,44", "2023-11-17 00:00:00.2500000,1,2", "2023-11-17 00:00:01,3,4"]
    arrivals = list(azure(rows))
    assert [round(row.at_s, 6) for row in arrivals if isinstance(row, Arrival)] == [0.0, 0.5, 1.25]
    assert arrivals[0] == Arrival(0.0, 374, 44)


def test_lines_past_the_limit_are_not_looked_at(tmp_path: Path) -> None:
    path = written(tmp_path, "trace.csv", AZURE, "2023-11-16 18:15:46.68,1,2", "nonsense")
    assert read(path, 1, strict=True).arrivals == (Arrival(0.0, 1, 2),)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2023-11-16 18:15:46.68,x,4", "line 3: lengths must be whole numbers, not 'x' and '4'"),
        ("2023-11-16 18:15:46.68,3", "line 3: expected 3 values, found 2"),
        ("2023-11-16 18:15:46.68,3,4,5", "line 3: expected 3 values, found 4"),
        ("", "line 3: expected 3 values, found 0"),
        ("2023-11-16 18:15:46.6e9,3,4", "line 3: .* is not a time"),
        ("yesterday,3,4", "line 3: 'yesterday' is not a time"),
        ("2023-11-16 18:15:46.68,0,4", "line 3: lengths must be positive"),
        ("2023-11-16 18:15:46.68,3,-4", "line 3: lengths must be positive"),
        ("2023-11-16 18:15:45,3,4", "line 3: earlier than the line before"),
        ("x" * 200_000, "line 3: field larger than"),
    ],
)
def test_a_malformed_line_is_named_and_counted_or_with_strict_an_error(tmp_path: Path, line: str, says: str) -> None:
    first, last = "2023-11-16 18:15:46.68,3,4", "2023-11-16 18:15:47.68,5,6"
    path = written(tmp_path, "trace.csv", AZURE, first, line, last)
    with pytest.raises(TraceError, match=says):
        read(path, strict=True)
    trace = read(path)
    assert [arrival.prompt_tokens for arrival in trace.arrivals] == [3, 5]
    assert (trace.corrupt, trace.failed, trace.skipped[0].line) == (1, 0, 3)


@pytest.mark.parametrize("rows", [[], ["a,b"], ["ContextTokens,TIMESTAMP,GeneratedTokens"]])
def test_other_columns_are_refused(rows: list[str]) -> None:
    with pytest.raises(TraceError, match="line 1: expected the columns TIMESTAMP"):
        list(azure(rows))


@pytest.mark.parametrize(
    "content", ["", "\n", "hello\n", "a,b,c\n1,2,3\n", '{"some": "json"}\n', "[1]\n", f"{AZURE}\n"]
)
def test_what_is_no_trace_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trace"
    path.write_text(content)
    with pytest.raises(TraceError, match=r"not a trace|not one request"):
        read(path)


def test_files_that_are_broken_say_so(tmp_path: Path) -> None:
    whole = gzip.compress((AZURE + "\n" + "2023-11-16 18:15:46,3,4\n" * 2000).encode())
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(whole)
    assert len(read(path).arrivals) == 2000
    damaged = whole[:14] + bytes([whole[14] ^ 0xFF, whole[15] ^ 0xFF]) + whole[16:]
    for content in (whole[: len(whole) // 2], damaged, b"not gzip", b""):
        path.write_bytes(content)
        with pytest.raises(TraceError, match=r"trace\.csv\.gz: "):
            read(path)
    (tmp_path / "latin.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match=r"latin\.csv: not readable"):
        read(tmp_path / "latin.csv")


def test_burstgpt_failures_are_counted_apart(tmp_path: Path) -> None:
    path = written(
        tmp_path, "burst.csv", BURSTGPT, "5,ChatGPT,472,18,490,Conversation log", "45,ChatGPT,1087,0,1087,API log",
        "118,GPT-4,417,276,693,Conversation log", "118,GPT-4,1", "119,GPT-4,9,x,9,API log",
    )  # fmt: skip
    trace = read(path)
    assert trace.format == "burstgpt"
    assert trace.arrivals == (Arrival(0.0, 472, 18, (), "ChatGPT"), Arrival(113.0, 417, 276, (), "GPT-4"))
    assert (trace.corrupt, trace.failed) == (2, 1)
    assert [(each.line, each.failed) for each in trace.skipped] == [(3, True), (5, False), (6, False)]
    with pytest.raises(TraceError, match="line 5"):
        read(path, strict=True)
    assert len(list(burstgpt([BURSTGPT]))) == 0


def test_mooncakes_ticks_are_spread_and_other_times_are_not() -> None:
    ticks = [Arrival(3.0 * (number // 50), 1, 1) for number in range(500)]
    drawn, again, other = spread(ticks, 1), spread(ticks, 1), spread(ticks, 2)
    assert drawn == again != other
    offsets = [after.at_s - before.at_s for before, after in zip(ticks, drawn, strict=True)]
    assert min(offsets) >= 0
    assert max(offsets) < 3
    assert 1.3 < sum(offsets) / len(offsets) < 1.7
    exact = [Arrival(0.0, 1, 1), Arrival(0.27, 1, 1)]
    assert spread(exact, 1) == exact


def test_mooncake_has_blocks_and_is_sorted(tmp_path: Path) -> None:
    lines = [json.dumps({**MOONCAKE, "timestamp": 3000 * (number // 20)}) for number in range(100)]
    path = written(tmp_path, "mooncake.jsonl", *lines, '{"timestamp": 9000, "input_length": 3}', "{", '"text"')
    trace = read(path)
    times = [arrival.at_s for arrival in trace.arrivals]
    assert trace.format == "mooncake"
    assert times[0] == 0.0
    assert times == sorted(times)
    assert len(set(times)) == 100
    assert trace.arrivals[0].blocks == (0, 7, 9)
    said = ["output_length is missing", "not JSON from character 2 on", "not an object"]
    assert trace.skipped == tuple(Skipped(101 + number, reason) for number, reason in enumerate(said))
    assert trace.corrupt == 3


@pytest.mark.parametrize(
    "change",
    [{"at_s": "x"}, {"at_s": True}, {"at_s": 1e400}, {"prompt_tokens": 0}, {"prompt_tokens": 1.5}, {"model": 3},
     {"priority": "high"}, {"completion_tokens": None}],
)  # fmt: skip
def test_own_lines_say_what_is_wrong(change: dict[str, object]) -> None:
    rows: list[Row] = list(turnout([json.dumps(OWN), json.dumps(OWN | change)]))
    assert rows[0] == Arrival(1.5, 3, 4)
    assert isinstance(rows[1], Skipped)
    assert rows[1].line == 2


def test_own_lines_may_name_model_priority_and_class() -> None:
    fields = {"model": "m", "priority": -1, "slo_class": "batch"}
    assert list(turnout([json.dumps(OWN | fields)])) == [Arrival(1.5, 3, 4, (), "m", -1, "batch")]


def test_mooncake_lines_say_what_is_wrong() -> None:
    wrong = [MOONCAKE | change for change in ({"hash_ids": 3}, {"hash_ids": ["a"]}, {"timestamp": None})]
    wrong.append(MOONCAKE | {"timestamp": 10**400})
    assert all(isinstance(row, Skipped) for row in mooncake(map(json.dumps, wrong)))


def test_a_first_line_that_is_corrupt_does_not_hide_the_format() -> None:
    assert recognised(["{", json.dumps(MOONCAKE)]) == "mooncake"
    assert recognised(["[]", json.dumps(OWN)]) == "turnout"
    assert recognised([]) is None


def row(
    request_id: str, wall_ns: int, e2e_s: float, tokens: int, outcome: RecordOutcome = "ok", attempt: int = 1
) -> RequestRecord:
    usage = Usage(100, 20, tokens)
    head = (request_id, attempt, wall_ns, "default", "chat", True, "m", "c")
    return RequestRecord(*head, outcome, "x", "off", usage, "b", e2e_s=e2e_s)


async def ledger(path: Path) -> None:
    book = Ledger(path, 0.05, 10, 100)
    book.start()
    for each in (
        row("slow", 9_000_000_000, 8.0, 50),
        row("retried", 3_000_000_000, 0.1, 0, "failed", 1),
        row("retried", 5_000_000_000, 2.0, 30, "ok", 2),
        row("lost", 6_000_000_000, 1.0, 0, "failed"),
    ):
        book.append(each, Bill(FREE, None, None))
    await book.aclose()


def test_a_ledger_is_a_trace_of_what_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    asyncio.run(ledger(path))
    packed = tmp_path / "ledger.gz"
    with path.open("rb") as plain, gzip.open(packed, "wb") as file:
        shutil.copyfileobj(plain, file)
    before = path.read_bytes()

    def seen(trace: Trace) -> list[tuple[float, int, int, str | None]]:
        return [
            (round(each.at_s, 6), each.prompt_tokens, each.completion_tokens, each.model) for each in trace.arrivals
        ]

    for trace in (read(path), read(packed)):
        assert trace.format == "ledger"
        assert seen(trace) == [(0.0, 120, 50, "m"), (2.0, 120, 30, "m")]
        assert (trace.corrupt, trace.failed) == (0, 1)
    assert path.read_bytes() == before


def test_another_database_is_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    path.write_bytes(b"SQLite format 3\0" + b"\0" * 200)
    with pytest.raises(TraceError, match="not readable as a ledger"):
        read(path)
