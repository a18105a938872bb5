"""Ctrl-C while runs are played: quiet, quick, and what has finished is told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    lines = ({"at_s": n * 0.4, "prompt_tokens": 200 + n % 50, "completion_tokens": 20 + n % 30} for n in range(150))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@contextmanager
def turnout(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that leads its group, as a shell's foreground job does."""
    with subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        process_group=0,
        env={
            **os.environ,
            "TTY_INTERACTIVE": "1",
            "TTY_COMPATIBLE": "1",
            "COLUMNS": "100",
        },  # the bar is told as it moves
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` ignores it
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str], what: str) -> str:
    """What stderr says until that (a pattern) is in it: the bar is drawn four times a second and passes numbers by."""
    assert process.stderr is not None
    text = ""
    while not re.search(what, text[-40:]):
        more = process.stderr.read(1)
        assert more, text
        text += more
    return text


@pytest.mark.parametrize("everybody", [True, False], ids=["terminal", "kill"])
def test_a_replay_stops_and_tells_the_runs_that_finished(trace: Path, everybody: bool) -> None:
    with turnout("replay", str(trace), "--seeds", "400", "--jobs", "2") as process:
        said = told(process, r"[1-9]\d*/400")
        (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
        began_s = time.monotonic()
        out, err = process.communicate(timeout=30)
        took_s = time.monotonic() - began_s
    assert process.returncode == 130
    assert "Traceback" not in said + err
    assert " of 400 runs" in err
    assert "interrupted: 0 of" not in err
    assert "cheapest-slo" in out
    assert took_s < 5  # a second where the machine is idle; 400 runs take minutes


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_nothing_has_finished_and_that_is_said_too(trace: Path, jobs: str) -> None:
    with turnout("replay", str(trace), "--load", "200", "--seeds", "2", "--jobs", jobs) as process:
        said = told(process, "0/2")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "interrupted: 0 of 2 runs" in err
    assert "Traceback" not in said + err


def test_a_comparison_stops_without_a_word_of_its_workers(trace: Path, tmp_path: Path) -> None:
    other = tmp_path / "turnout.yaml"
    other.write_text("version: 1\nextends: shipped\nrouting: {slo_margin: 0.1}\n")
    arguments = ("--trace", str(trace), "--seeds", "400", "--jobs", "2")
    with turnout("diff", "shipped", str(other), *arguments) as process:
        said = told(process, "0/400")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in said + err
