"""`turnout serve` as a process: ready lines, admin port and its token, drain on SIGTERM, nothing lost."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx

from app.config.load import shipped
from tests.gateways import serving

TOKEN = "a-token-of-enough-length"


def chat(url: str, **fields: object) -> httpx.Response:
    body = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "hi"}], **fields}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)


def config_with_token(folder: Path) -> Path:
    text = (shipped() / "turnout.yaml").read_text()
    text = text.replace("  # admin_token: ${TURNOUT_ADMIN_TOKEN} ", f"  admin_token: ${{TOKEN:-{TOKEN}}} ")
    path = folder / "turnout.yaml"
    path.write_text(text)
    assert TOKEN in text
    return path


def test_health_metrics_backends_decisions_and_config(tmp_path: Path) -> None:
    with serving(tmp_path) as at:
        assert httpx.get(f"{at.url}/healthz").json() == {"status": "ok"}
        assert httpx.get(f"{at.url}/readyz").json() == {"status": "ready"}
        decision = chat(at.url, max_tokens=3).headers["x-turnout-decision"]
        receipt = httpx.get(f"{at.admin_url}/admin/decisions/{decision}").json()
        assert receipt["chosen"] in {candidate["backend"] for candidate in receipt["candidates"]}
        assert httpx.get(f"{at.admin_url}/admin/decisions").json()["decisions"][0]["id"] == decision
        missing = httpx.get(f"{at.admin_url}/admin/decisions/d-none")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "decision_not_found")
        backends = httpx.get(f"{at.admin_url}/admin/backends").json()["backends"]
        assert len(backends) == 13
        maia = next(backend for backend in backends if backend["name"] == "maia-70b")
        assert maia["deployments"][0]["price"]["assumed"]
        assert "layer_time_us" in maia["deployments"][0]["assumptions"]
        assert httpx.get(f"{at.admin_url}/admin/config").json()["routing"]["default_policy"] == "cheapest-slo"
        text = httpx.get(f"{at.admin_url}/metrics")
        assert text.headers["content-type"].startswith("text/plain")
        counted = next(line for line in text.text.splitlines() if line.startswith("turnout_requests_total{"))
        assert 'code="200"' in counted
        assert counted.endswith(" 1.0")
        openmetrics = httpx.get(f"{at.admin_url}/metrics", headers={"accept": "application/openmetrics-text"})
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
        assert openmetrics.text.endswith("# EOF\n")


def test_a_configured_token_guards_the_whole_admin_port(tmp_path: Path) -> None:
    with serving(tmp_path, config_with_token(tmp_path)) as at:
        for path in ("/metrics", "/admin/backends", "/admin/config"):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
                refused = httpx.get(f"{at.admin_url}{path}", headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert httpx.get(f"{at.admin_url}{path}", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        shown = httpx.get(f"{at.admin_url}/admin/config", headers={"authorization": f"Bearer {TOKEN}"}).text
        assert TOKEN not in shown
        assert httpx.get(f"{at.url}/healthz").status_code == 200


def test_sigterm_lets_requests_finish_and_writes_the_ledger_out(tmp_path: Path) -> None:
    answers: list[httpx.Response] = []
    with serving(tmp_path) as at:
        assert at.process is not None

        def ask() -> None:
            answers.append(chat(at.url, model="llama-3.3-70b", max_tokens=300, min_tokens=300))

        asking = threading.Thread(target=ask)
        asking.start()
        deadline_s = time.monotonic() + 10
        while not any(
            backend["in_flight"] for backend in httpx.get(f"{at.admin_url}/admin/backends").json()["backends"]
        ):
            assert time.monotonic() < deadline_s
        at.process.send_signal(signal.SIGTERM)
        asking.join(timeout=30)
        assert at.process.wait(timeout=30) == 0
    assert answers[0].status_code == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 300
    with closing(sqlite3.connect(tmp_path / "turnout-ledger.sqlite3")) as connection:
        assert connection.execute("SELECT outcome, completion_tokens FROM requests").fetchall() == [("ok", 300)]


def config_with_server(folder: Path, **server: float) -> Path:
    path = folder / "turnout.yaml"
    listed = ", ".join(f"{name}: {value}" for name, value in server.items())
    path.write_text(f"version: 1\nextends: shipped\nserver: {{{listed}}}\n")
    return path


def test_what_outlasts_the_drain_is_told_so(tmp_path: Path) -> None:
    whole: list[httpx.Response] = []
    endless = {"max_tokens": 8000, "ignore_eos": True}
    with serving(tmp_path, config_with_server(tmp_path, drain_timeout_s=0.3)) as at:
        assert at.process is not None
        asking = threading.Thread(target=lambda: whole.append(chat(at.url, **endless)))
        asking.start()
        message = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "hi"}], "stream": True, **endless}
        with httpx.stream("POST", f"{at.url}/v1/chat/completions", json=message, timeout=30) as stream:
            chunks = stream.iter_text()
            next(chunks)
            at.process.send_signal(signal.SIGTERM)
            text = "".join(chunks)
        asking.join(timeout=30)
        assert at.process.wait(timeout=30) == 0
    assert (whole[0].status_code, whole[0].json()["error"]["code"]) == (503, "shutting_down")
    assert whole[0].headers["x-request-id"]
    assert '"code":"shutting_down"' in text
    assert "[DONE]" not in text
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    with closing(sqlite3.connect(tmp_path / "turnout-ledger.sqlite3")) as connection:
        assert connection.execute("SELECT outcome, cost_nusd > 0 FROM requests").fetchall() == [("cancelled", 1)] * 2


def test_draining_can_be_seen_and_the_end_scraped(tmp_path: Path) -> None:
    with serving(tmp_path, config_with_server(tmp_path, drain_delay_s=1.0)) as at:
        assert at.process is not None
        at.process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + 5
        while (answer := httpx.get(f"{at.url}/readyz")).status_code == 200:
            assert time.monotonic() < deadline_s
        assert (answer.status_code, answer.json()["reason"]) == (503, "draining")
        assert chat(at.url, max_tokens=3).status_code == 200
        assert httpx.get(f"{at.admin_url}/metrics").status_code == 200
        assert at.process.wait(timeout=30) == 0


def test_a_taken_port_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        root = str(Path(__file__).resolve().parents[2])
        done = subprocess.run(
            [sys.executable, "-m", "app", "serve", "--port", port],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONPATH": root},
        )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; for another port: --port N" in done.stderr
    assert "server.port in a configuration (make run CONFIG=FILE)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ledger_that_cannot_be_opened_is_one_line_and_exit_1(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve", "--port", "0", "--admin-port", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": root, "TURNOUT_LEDGER": str(tmp_path / "no" / "folder.sqlite3")},
    )
    assert done.returncode == 1
    assert "folder.sqlite3" in done.stderr
    assert "Traceback" not in done.stderr
