"""`turnout bench` against servers that are slow, broken or no gateway at all, and against Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli import main

Behaviour = Callable[[BaseHTTPRequestHandler], None]
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "2023-11-16 18:15:46,3,4\n" * 3


def stream(server: BaseHTTPRequestHandler, *events: bytes) -> None:
    server.send_response(200)
    server.send_header("content-type", "text/event-stream")
    server.send_header("x-turnout-substrate", "maia")
    server.end_headers()
    server.wfile.write(b"".join(b"data: " + event + b"\n\n" for event in events))


@contextlib.contextmanager
def behaving(behaviour: Behaviour) -> Iterator[str]:
    """A server on a free port whose POSTs behave like that."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            behaviour(self)

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


def test_another_gateway_is_measured_and_is_unpriced(trace: Path) -> None:
    text = b'{"choices":[{"delta":{"content":"a"}}]}'
    usage = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
    with behaving(lambda server: stream(server, text, text, usage, b"[DONE]")) as url:
        result = CliRunner().invoke(main, ["bench", "--trace", str(trace), "--url", url], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "3 of 3 answered" in result.stdout
    assert "unpriced" in result.stdout


def test_what_goes_wrong_is_counted_by_name(trace: Path) -> None:
    cases: list[tuple[str, Behaviour]] = [
        ("cut_stream", lambda server: stream(server, b'{"choices":[{"delta":{"content":"a"}}]}')),
        ("overloaded", lambda server: stream(server, b'{"error":{"code":"overloaded"}}')),
        ("not_json", lambda server: server.send_error(502)),
        ("RemoteProtocolError", lambda server: None),
    ]
    for name, behaviour in cases:
        with behaving(behaviour) as url:
            result = CliRunner().invoke(main, ["bench", "--trace", str(trace), "--url", url, "--json"])
        assert result.exit_code == 1, (name, result.output)
        assert json.loads(result.stdout)["errors"] == {name: 3}


def test_an_answer_that_is_no_completion_is_an_error(trace: Path) -> None:
    arguments = ["bench", "--trace", str(trace), "--json", "--no-stream", "--url"]
    with behaving(lambda server: stream(server, b"<html>")) as url:
        result = CliRunner().invoke(main, [*arguments, url])
    assert json.loads(result.stdout)["errors"] == {"not_a_completion": 3}


def test_ctrl_c_prints_what_there_is(trace: Path) -> None:
    seen, done = threading.Event(), threading.Event()

    def never_answer(server: BaseHTTPRequestHandler) -> None:
        seen.set()
        done.wait(30)

    with behaving(never_answer) as url:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "bench", "--trace", str(trace), "--url", url, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` ignores it
        )
        try:
            assert seen.wait(30)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            done.set()
    assert process.returncode == 1
    assert "interrupted" in err
    summary = json.loads(out)
    assert summary["answered"] == 0
    assert set(summary["errors"]) == {"interrupted"}
