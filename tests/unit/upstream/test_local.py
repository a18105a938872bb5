"""A process behind a backend: started, watched, started again, ended. The process is a stub, not a model."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from app.cli.local import configuration
from app.config.load import load, to_spec
from app.errors import ConfigError
from backends.clock import SystemClock
from backends.errors import BackendConfigError, Unavailable
from backends.types import (
    GenerationRequest,
    LatencyProfile,
    LiveDeploymentSpec,
    LiveSpec,
    LocalServer,
    TokenChunk,
)
from backends.upstream.local import LocalBackend, local
from backends.upstream.process import ServerProcess
from tests.conftest import ROOT
from tests.sheets import sheets
from tests.upstreams import PROFILE

STUB = """
import json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
        if "prompt" in asked:
            return self.stream([{"text": "w"}] * 16, len(asked["prompt"].split()))
        if asked["messages"][0]["content"] == "die":
            print("out of breath", file=sys.stderr, flush=True)
            os._exit(9)
        self.stream([{"delta": {"content": "hello"}}], 1)
    def stream(self, words, prompt_tokens):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        time.sleep(prompt_tokens / 2000)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(words)}
        for place, word in enumerate(words, 1):
            end = "stop" if place == len(words) else None
            chunk = {"choices": [{"index": 0, "finish_reason": end, **word}], "usage": usage if end else None}
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\\n\\n")
            time.sleep(0.002)
        self.wfile.write(b"data: [DONE]\\n\\n")

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps({"url": "http://127.0.0.1:%d" % server.server_port}), flush=True)
sys.stdin.buffer.read()
os._exit(0)
"""
MODEL = "smollm2-135m"


def backend_of(folder: Path, text: str = STUB, profile: LatencyProfile | None = PROFILE) -> LocalBackend:
    script = folder / "stub.py"
    script.write_text(textwrap.dedent(text))
    deployment = LiveDeploymentSpec(MODEL, context_tokens=4096, capabilities=frozenset({"n", "json_schema"}))
    spec = LiveSpec("here", "local", "", (deployment,), profile=profile, server=LocalServer(slots=2))
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
    pid = backend.process.pid
    assert pid is not None
    await backend.aclose()
    assert backend.process.pid is None
    assert not running(pid)


async def test_a_process_that_ends_is_started_again(tmp_path: Path) -> None:
    backend = backend_of(tmp_path)
    backend.process.first_pause_s = 0.05
    await backend.start()
    first = backend.process.pid
    with pytest.raises(Unavailable):
        await said(backend, "die")
    async with asyncio.timeout(20):
        while backend.process.pid in (first, None) or not await answers(backend):
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
    assert backend.process.pid is None
    await backend.aclose()


async def test_one_that_does_not_hear_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.upstream.process.STOP_S", 0.2)
    deaf = STUB.replace("sys.stdin.buffer.read()", "threading.Event().wait()")
    backend = backend_of(tmp_path, deaf)
    await backend.start()
    pid = backend.process.pid
    assert pid is not None
    await backend.aclose()
    assert not running(pid)


async def test_what_it_said_before_it_died_is_told_and_pauses_grow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "stub.py"
    script.write_text(
        'import os, sys\nprint(\'{"url": "http://x"}\', flush=True)\n'
        "print('out of breath', file=sys.stderr, flush=True)\nos._exit(9)"
    )
    clock = Pauses()
    process = ServerProcess("here", [sys.executable, str(script)], dict(os.environ), lambda url: None, clock)
    await process.start()
    async with asyncio.timeout(20):
        while len(clock.pauses_s) < 4:
            await asyncio.sleep(0.01)
    await process.aclose()
    assert clock.pauses_s[:4] == [1, 2, 4, 8]
    assert "exit 9: out of breath" in caplog.text


class Pauses(SystemClock):
    """Does not wait, and remembers for how long it should have."""

    def __init__(self) -> None:
        self.pauses_s: list[int] = []

    async def sleep_until(self, when_ns: int) -> None:
        self.pauses_s.append(round((when_ns - self.now_ns()) / 1e9))
        await asyncio.sleep(0)


async def test_a_program_that_is_not_there_is_unavailable() -> None:
    process = ServerProcess("here", ["/no/such/program"], {}, lambda url: None, SystemClock())
    with pytest.raises(Unavailable, match="no process could be started"):
        await process.start()
    await process.aclose()


async def test_it_hears_no_interrupt_meant_for_the_gateway(tmp_path: Path) -> None:
    backend = backend_of(tmp_path)
    await backend.start()
    pid = backend.process.pid
    assert pid is not None
    assert os.getpgid(pid) == pid != os.getpgid(0)
    await backend.aclose()


async def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "stub.py").write_text(STUB)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path / "stub.py"), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert running(pid)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(20):
        while running(pid):
            await asyncio.sleep(0.01)


PARENT = """
import asyncio, os, sys
from backends.clock import SystemClock
from backends.upstream.process import ServerProcess

async def main():
    environment = {**os.environ, "TURNOUT_LOCAL_KEY": "k"}
    process = ServerProcess("here", [sys.executable, sys.argv[1]], environment, lambda url: None, SystemClock())
    await process.start()
    print(process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_without_a_profile_it_is_measured_and_not_known_before(tmp_path: Path) -> None:
    backend = backend_of(tmp_path, profile=None)
    assert not backend.info.deployments, "nobody may route by what nobody has seen"
    await backend.start()
    profile = backend.info.deployments[MODEL].profile
    assert profile.max_sequences == 2
    assert profile.prefill_s_per_token > 0, "the stub takes half a millisecond"
    assert profile.tpot_s(1) > 0.0005, "the stub takes two milliseconds"
    await backend.aclose()


def test_several_answers_are_not_among_what_it_can(tmp_path: Path) -> None:
    (deployment,) = backend_of(tmp_path).info.deployments.values()
    assert deployment.capabilities == {"json_schema"}


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if runtime and weights were installed."""
    monkeypatch.setattr("backends.upstream.local.installed", lambda server: None)


@pytest.mark.usefixtures("there")
def test_what_was_measured_is_what_the_configuration_says(tmp_path: Path) -> None:
    measured = LatencyProfile(0.175, 0.0025, 0.004, 0.006, 3, "shared")
    path = tmp_path / "local.yaml"
    path.write_text(configuration(measured, LocalServer(1, 3, 2048)))
    spec: Any = to_spec(load(path).config.backends[0])
    assert spec.server == LocalServer(1, 3, 2048)
    assert spec.profile == measured


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind: local", "kind: hosted", "url: is required"),
        ("kind: local", "kind: local\n    url: http://x", "is a process of the gateway's own and has none"),
        ("slots: 3", "slots: 0", "slots"),
        ("slots: 3", "slotz: 3", "did you mean 'slots'"),
    ],
)
def test_what_a_local_backend_cannot_have_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "local.yaml"
    path.write_text(configuration(PROFILE, LocalServer(1, 3, 2048)).replace(old, new))
    with pytest.raises(ConfigError, match=says):
        load(path)


@pytest.mark.usefixtures("there")
def test_gateways_that_share_are_warned(tmp_path: Path) -> None:
    path = tmp_path / "local.yaml"
    path.write_text(configuration(PROFILE, LocalServer()) + "sharing: {type: redis, url: 'redis://x'}\n")
    assert any("must not call it the same" in warning for warning in load(path).warnings)


@pytest.mark.parametrize("missing", ["runtime", "weights", "file"])
def test_check_says_what_to_run_where_something_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    given = LocalServer(weights=str(tmp_path / "model.gguf") if missing == "file" else None)
    monkeypatch.setattr("backends.upstream.local.find_spec", lambda name: None if missing == "runtime" else name)
    monkeypatch.setattr("backends.upstream.local_server.find_spec", lambda name: None)
    path = tmp_path / "local.yaml"
    text = configuration(PROFILE, given)
    path.write_text(text.replace("slots:", f"weights: {given.weights}, slots:", 1) if missing == "file" else text)
    with pytest.raises(ConfigError, match=r"model\.gguf" if missing == "file" else "make local"):
        load(path)
