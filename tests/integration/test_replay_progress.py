"""A long replay shows that it goes on: requests played so far, over all processes, while no run has ended yet."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli import main
from app.replay.runs import Replay, Run, play, play_all
from app.replay.tally import tally

ROOT = Path(__file__).resolve().parents[2]
WITHIN = re.compile(rb"0/2, ([1-9][0-9,]*) of 200,000 requests")


def write(path: Path, requests: int) -> Path:
    lines = (
        {"at_s": n * 0.1, "prompt_tokens": 200 + n % 50, "completion_tokens": 20 + n % 30} for n in range(requests)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_requests_are_told_before_the_first_run_has_ended(tmp_path: Path, jobs: str) -> None:
    trace = write(tmp_path / "trace.jsonl", 100_000)  # half a minute of play: it is stopped as soon as it has told
    with subprocess.Popen(
        [sys.executable, "-m", "app", "replay", str(trace), "--seeds", "2", "--jobs", jobs],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "TTY_INTERACTIVE": "1", "TTY_COMPATIBLE": "1", "COLUMNS": "120"},
    ) as process:
        try:
            assert process.stderr is not None
            said, told = b"", list[int]()
            while len(set(told)) < 3:
                more = os.read(process.stderr.fileno(), 4096)
                assert more, said
                said += more
                told = [int(number.replace(b",", b"")) for number in WITHIN.findall(said)]
        finally:
            process.terminate()
    assert told == sorted(told)


def test_every_request_is_counted_and_none_changes(tmp_path: Path) -> None:
    replay = Replay(write(tmp_path / "trace.jsonl", 40), None)
    runs = [Run("cheapest-slo", 0), Run("round-robin", 0), Run("oracle", 0)]
    finished: list[None] = []
    with tally(3) as counted:
        results = play_all(replay, runs, 2, lambda: finished.append(None), counted.places)
        assert list(counted.numbers) == [40, 40, 40]
        assert counted.done() == 120
        file = counted.places[0].file
    assert not file.exists()
    assert len(finished) == 3
    assert list(results) == ["cheapest-slo", "round-robin", "oracle"]
    assert results["cheapest-slo"][0] == play(replay, runs[0])


def test_the_bar_ends_whole_though_scaled_traffic_is_a_request_more_or_less(tmp_path: Path) -> None:
    trace = write(tmp_path / "trace.jsonl", 60)
    done = CliRunner().invoke(main, ["replay", str(trace), "--load", "0.5", "--jobs", "1"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "1/1, 30 of 30 requests" in done.stderr
    quiet = CliRunner().invoke(main, ["replay", str(trace), "--jobs", "1", "--json"], catch_exceptions=False)
    assert (quiet.exit_code, quiet.stderr) == (0, "")
