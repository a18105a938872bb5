"""Reloading a `turnout serve` process: SIGHUP, a watched file, and the commands over the admin port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateways import Addresses, serving

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, *, seed: int = 0, watch: bool = False, extra: str = "") -> Path:
    path = folder / "turnout.yaml"
    text = f"version: 1\nextends: shipped\nserver: {{watch_config: {str(watch).lower()}}}\nrouting: {{seed: {seed}}}\n"
    path.write_text(text + extra)
    return path


def status(at: Addresses) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{at.admin_url}/admin/status").json()
    return answer


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def turnout(at: Addresses, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments, "--admin-url", at.admin_url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=ROOT,
    )


def chat(at: Addresses) -> httpx.Response:
    body = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    return httpx.post(f"{at.url}/v1/chat/completions", json=body, timeout=30)


def test_sighup_takes_over_a_good_file_and_logs_a_bad_one(tmp_path: Path) -> None:
    path = write(tmp_path)
    with serving(tmp_path, path) as at:
        assert at.process is not None
        first = status(at)["config"]
        assert chat(at).headers["x-turnout-config"] == first
        write(tmp_path, seed=1)
        at.process.send_signal(signal.SIGHUP)
        until(lambda: status(at)["config"] != first)
        answer = chat(at)
        assert answer.headers["x-turnout-config"] == status(at)["config"]
        receipt = httpx.get(f"{at.admin_url}/admin/decisions/{answer.headers['x-turnout-decision']}").json()
        assert receipt["config"] == answer.headers["x-turnout-config"] != first
        write(tmp_path, seed=2, extra="nonsense: 1\n")
        at.process.send_signal(signal.SIGHUP)
        until(lambda: not status(at)["reload"]["successful"])
        assert status(at)["config"] == answer.headers["x-turnout-config"]
        assert chat(at).status_code == 200
        log = (tmp_path / "stderr").read_text()
        assert f"{path}:5:1: nonsense: unknown key" in log
        assert "Traceback" not in log


def test_a_watched_file_is_taken_over_when_it_changes(tmp_path: Path) -> None:
    path = write(tmp_path, watch=True)
    with serving(tmp_path, path) as at:
        first = status(at)["config"]
        write(tmp_path, seed=1, watch=True)
        until(lambda: status(at)["config"] != first)
        write(tmp_path, seed=1, watch=True, extra="nonsense: 1\n")
        until(lambda: not status(at)["reload"]["successful"])
        second = status(at)["config"]
        write(tmp_path, seed=3)
        until(lambda: status(at)["config"] != second)
        assert status(at)["reload"]["successful"]


@pytest.mark.parametrize("as_json", [False, True])
def test_commands_reload_list_drain_and_tell(tmp_path: Path, as_json: bool) -> None:
    path = write(tmp_path)
    json_flag = ["--json"] if as_json else []
    with serving(tmp_path, path) as at:
        first = status(at)["config"]
        write(tmp_path, seed=1)
        dry = turnout(at, "reload", "--dry-run", *json_flag)
        assert dry.returncode == 0, dry.stderr
        assert status(at)["config"] == first
        done = turnout(at, "reload", *json_flag)
        assert (done.returncode, status(at)["config"] != first) == (0, True)
        if as_json:
            told, wet = json.loads(dry.stdout), json.loads(done.stdout)
            assert {**told, "dry_run": False} == wet
            assert (wet["ok"], wet["routing"], wet["config"]) == (True, ["seed"], status(at)["config"])
        else:
            assert dry.stdout.startswith("would change: config")
            assert "routing: seed" in done.stdout
        again = turnout(at, "reload", *json_flag)
        assert "nothing differs" in again.stdout or json.loads(again.stdout)["changed"] is False

        write(tmp_path, seed=1, extra="nonsense: 1\n")
        refused = turnout(at, "reload", *json_flag)
        assert refused.returncode == 1
        assert f"{path}:5:1: nonsense: unknown key" in refused.stdout + refused.stderr
        state = turnout(at, "status", *json_flag)
        assert state.returncode == 0
        assert '"successful": false' in state.stdout if as_json else "REFUSED" in state.stdout

        drained = turnout(at, "backends", "drain", "maia-70b", *json_flag)
        assert drained.returncode == 0, drained.stderr
        listed = turnout(at, "backends", "list", *json_flag)
        if as_json:
            backends = {each["name"]: each for each in json.loads(listed.stdout)["backends"]}
            assert backends["maia-70b"]["drained"]
            assert not backends["maia-8b"]["drained"]
        else:
            line = next(line for line in listed.stdout.splitlines() if "maia-70b" in line)
            assert "drained" in line
        assert turnout(at, "backends", "undrain", "maia-70b", *json_flag).returncode == 0
        assert status(at)["backends"]["drained"] == []
        unknown = turnout(at, "backends", "drain", "no such", *json_flag)
        assert (unknown.returncode, "no backend 'no such'" in unknown.stderr) == (1, True)


def test_nobody_there_is_exit_3() -> None:
    nowhere = Addresses("", "http://127.0.0.1:9")
    for arguments in (["reload"], ["status"], ["backends", "list"], ["backends", "drain", "a"]):
        done = turnout(nowhere, *arguments)
        assert (done.returncode, "cannot reach" in done.stderr) == (3, True), os.linesep.join(arguments)
