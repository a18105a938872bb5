"""A process behind a backend: started, watched, started again, ended. The process is a stub, not a model."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from app.cli.local import Measured, configuration
from app.config.load import load, to_spec
from backends.clock import SystemClock
from backends.errors import BackendConfigError, Unavailable
from backends.types import GenerationRequest, LiveDeploymentSpec, LiveSpec, LocalServer, TokenChunk
from backends.upstream.local import LocalBackend, local
from tests.sheets import sheets
from tests.upstreams import PROFILE

STUB = """
import json, os, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        right = self.headers["authorization"] == "Bearer " + os.environ["TURNOUT_LOCAL_KEY"]
        self.answer(200 if right else 401, b"{}")
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked["messages"][0]["content"] == "die":
            os._exit(9)
        chunk = {"choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}]}
        body = b"data: " + json.dumps(chunk).encode() + b"\\n\\ndata: [DONE]\\n\\n"
        self.answer(200, body, "text/event-stream")

server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps({"url": "http://127.0.0.1:%d" % server.server_port}), flush=True)
sys.stdin.buffer.read()
os._exit(0)
"""
MODEL = "smollm2-135m"


def backend_of(folder: Path, text: str = STUB) -> LocalBackend:
    script = folder / "stub.py"
    script.write_text(textwrap.dedent(text))
    deployment = LiveDeploymentSpec(MODEL, context_tokens=4096)
    spec = LiveSpec("here", "local", "", (deployment,), profile=PROFILE, server=LocalServer(slots=2))
    return local(spec, sheets(), SystemClock(), [sys.executable, str(script)])


async def said(backend: LocalBackend, prompt: str) -> str:
    body = f'{{"messages":[{{"role":"user","content":"{prompt}"}}],"stream":true}}'.encode()
    request = GenerationRequest("r", "chat", MODEL, (prompt,), 5, stream=True, body=body)
    return "".join([event.text async for event in backend.generate(request) if isinstance(event, TokenChunk)])


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_answers_and_ends_with_the_backend(tmp_path: Path) -> None:
    backend = backend_of(tmp_path)
    await backend.start()
    await backend.ping()
    assert await said(backend, "hi") == "hello"
    pid = backend.pid
    assert pid is not None
    await backend.aclose()
    assert backend.pid is None
    assert not running(pid)


async def test_a_process_that_ends_is_started_again(tmp_path: Path) -> None:
    backend = backend_of(tmp_path)
    backend._first_pause_s = 0.05
    await backend.start()
    first = backend.pid
    with pytest.raises(Unavailable):
        await said(backend, "die")
    async with asyncio.timeout(20):
        while backend.pid in (first, None) or not await answers(backend):
            await asyncio.sleep(0.02)
    assert await said(backend, "hi") == "hello"
    await backend.aclose()


async def answers(backend: LocalBackend) -> bool:
    try:
        await backend.ping()
    except Unavailable:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('print(\'{"error": "there are no weights"}\', flush=True)', "there are no weights"),
        ("raise SystemExit(3)", "did not begin to answer"),
        ("print('nonsense', flush=True)", "did not begin to answer"),
        ("print('[]', flush=True)", "did not begin to answer"),
    ],
)
async def test_one_that_does_not_start_says_why(tmp_path: Path, text: str, says: str) -> None:
    backend = backend_of(tmp_path, text)
    with pytest.raises(BackendConfigError, match=says):
        await backend.start()
    assert backend.pid is None
    await backend.aclose()


async def test_one_that_does_not_hear_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.upstream.local.STOP_S", 0.2)
    deaf = STUB.replace("sys.stdin.buffer.read()", "threading.Event().wait()")
    backend = backend_of(tmp_path, deaf)
    await backend.start()
    pid = backend.pid
    assert pid is not None
    await backend.aclose()
    assert not running(pid)


def test_what_was_measured_is_what_the_configuration_says(tmp_path: Path) -> None:
    measured = Measured(0.3, 1.3, 50, 450, 0.01, 0.016, 3)
    path = tmp_path / "local.yaml"
    path.write_text(configuration(measured, LocalServer(1, 3, 2048)))
    spec: Any = to_spec(load(path).config.backends[0])
    assert spec.server == LocalServer(1, 3, 2048)
    assert spec.profile.prefill_s_per_token == pytest.approx(0.0025)
    assert spec.profile.overhead_s == pytest.approx(0.175)
    assert (spec.profile.tpot_s(1), spec.profile.max_sequences) == (pytest.approx(0.013, abs=0.004), 3)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind: local", "kind: hosted", "url: is required"),
        ("kind: local", "kind: local\n    url: http://x", "is a process of the gateway's own and has none"),
        ("slots: 3", "slots: 0", "slots"),
        ("    profile:", "    #", "what latency to expect must be known"),
    ],
)
def test_what_a_local_backend_cannot_have_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = configuration(Measured(0.3, 1.3, 50, 450, 0.01, 0.016, 3), LocalServer(1, 3, 2048))
    path = tmp_path / "local.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(Exception, match=says):
        load(path)
