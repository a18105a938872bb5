"""A gateway over scripted backends under a real uvicorn: failover, cut streams, clients that leave, bad input."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import httpx
import pytest

from app.config.caching import MemoryCache
from backends import errors
from tests.fakes import Script, ScriptedBackend, ScriptedGeneration
from tests.gateways import running, scripted_config, until

CHAT = "/v1/chat/completions"
WORDS = ("one", " two", " three", " four")
DOWN = Script(fail_after=0, error=lambda: errors.Unavailable("down by script"))


def body(**fields: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi there"}], **fields}


def events(text: str) -> list[str]:
    return [line[6:] for line in text.split("\n\n") if line.startswith("data: ")]


async def test_a_failure_before_the_first_byte_moves_to_another_backend(tmp_path: Path) -> None:
    backends = [ScriptedBackend("a", scripts=[DOWN]), ScriptedBackend("b", scripts=[Script(WORDS)])]
    loaded = scripted_config(tmp_path, backends)
    async with running(loaded, backends) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answers = [await client.post(CHAT, json=body(stream=stream)) for stream in (False, True) * 4]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-turnout-backend"] for answer in answers} == {"b"}
        assert {answer.headers["x-turnout-attempts"] for answer in answers} == {"1", "2"}
        assert all(load.sequences == 0 for load in gateway.gateway.fleet.state.loads.values())


async def test_backends_nobody_can_connect_to_do_not_keep_a_healthy_one_from_answering(tmp_path: Path) -> None:
    gone = Script(fail_after=0, error=lambda: errors.Unreachable("no connection"))
    dead = [ScriptedBackend(name, "m", [gone]) for name in ("a", "b", "c")]
    backends = [*dead, ScriptedBackend("alive", "m")]
    async with running(scripted_config(tmp_path, backends), backends) as gateway, httpx.AsyncClient() as client:
        answer = await client.post(gateway.url + CHAT, json=body())
        assert (answer.status_code, answer.headers["x-turnout-backend"]) == (200, "alive")
        listed = (await client.get(f"{gateway.admin_url}/admin/backends")).json()["backends"]
        failing = {each["name"]: each["failing"] for each in listed}
        assert failing["alive"] is None
        assert {name for name, trouble in failing.items() if trouble} <= {"a", "b", "c"}
        assert failing["a"] == {"failures": 1, "last_error": "no connection"}


async def test_when_everyone_fails_the_client_gets_one_clear_error(tmp_path: Path) -> None:
    full = Script(fail_after=0, error=lambda: errors.Saturated("full by script", retry_after_s=1.5))
    for script, status, code in ((DOWN, 502, "upstream_failed"), (full, 429, "overloaded")):
        backends = [ScriptedBackend("a", scripts=[script]), ScriptedBackend("b", scripts=[script])]
        loaded = scripted_config(tmp_path, backends)
        async with running(loaded, backends) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
            answer = await client.post(CHAT, json=body())
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert answer.headers["x-turnout-attempts"] == "2"
            assert answer.headers["x-turnout-decision"]
            if status == 429:
                assert answer.headers["retry-after-ms"] == "1500"


async def test_a_stream_cut_midway_ends_with_an_error_event_and_no_done(tmp_path: Path) -> None:
    backend = ScriptedBackend("a", scripts=[Script(WORDS, fail_after=2)])
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(CHAT, json=body(stream=True))
        seen = events(answer.text)
        assert json.loads(seen[-1])["error"]["code"] == "upstream_failed"
        assert "[DONE]" not in seen
        assert len(backend.requests) == 1, "nothing is retried once bytes have gone out"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_what_it_asked_for(tmp_path: Path, stream: bool) -> None:
    backend = ScriptedBackend("a", scripts=[Script(WORDS, hang_before=2)])
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        sent = json.dumps(body(stream=stream)).encode()
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(sent), sent))
        await until(lambda: backend.running == 1)
        if stream:
            await reader.readuntil(b" two")
        writer.close()
        await until(lambda: backend.running == 0)
        metrics = gateway.gateway.metrics
        await until(lambda: metrics.requests.total() == 1)
        assert dict(metrics.requests.items()) == {("m", "default", "chat", "499"): 1}
        assert metrics.disconnects.total() == 1
        assert gateway.gateway.fleet.state.load("a").sequences == 0


BAD = [
    (b"{", 400, None),
    (b"\xff\xfe", 400, None),
    (b"[]", 400, None),
    (b"", 400, None),
    (b'{"model":"m","messages":[]}', 400, "messages"),
    (b'{"model":5,"messages":[{"role":"user","content":"x"}]}', 400, "model"),
    (b'{"model":"nobody","messages":[{"role":"user","content":"x"}]}', 404, "model"),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN}', 400, None),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}', 400, "temperature"),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1e400}', 400, "max_tokens"),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}],"n":-1}', 400, "n"),
    (b'{"model":"m","messages":[{"role":"user","content":"\xc3\x28"}]}', 400, None),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}],"seed":[]}', 400, "seed"),
    (b'{"model":"m","messages":' + b"[" * 200_000, 400, "messages[0]"),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0,"unknown":1e400}', 400, None),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0,"unknown":"\xff"}', 400, None),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}],"seed":1,"x":' + b"9" * 6000 + b"}", 400, None),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}],"stop":"' + b"z" * 2000 + b'"}', 400, "stop"),
    (b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 10_000_000 + b'"}]}', 413, None),
]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_bad_bodies_are_answered_in_openais_shape(tmp_path: Path, path: str) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        for sent, status, param in BAD:
            answer = await client.post(path, content=sent, headers={"content-type": "application/json"})
            assert 400 <= answer.status_code < 500, sent[:60]
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert "Traceback" not in answer.text
            assert answer.headers["x-request-id"]
            assert answer.headers["x-turnout-config"]
            assert float(answer.headers["x-turnout-overhead-ms"]) >= 0
            if path == CHAT:
                assert (answer.status_code, error["param"]) == (status, param), sent[:60]
        assert backend.requests == []
        good = {"model": "m", "prompt": "x"} if path != CHAT else body()
        assert (await client.post(path, json=good)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "unknown_route"),
        ("POST", "/v1/files", 404, "unsupported_endpoint"),
        ("GET", "/v1/batches/b-1", 404, "unsupported_endpoint"),
        ("GET", "/v1/fine_tuning/jobs", 404, "unsupported_endpoint"),
        ("GET", "/v1/responses/resp_1", 404, "unsupported_endpoint"),
        ("POST", "/v1/messages/batches", 404, "unsupported_endpoint"),
        ("GET", "/", 404, "unknown_route"),
        ("GET", "/v1/models/nobody", 404, "model_not_found"),
        ("GET", "/metrics", 404, "unknown_route"),
        ("GET", "/admin/config", 404, "unknown_route"),
    ],
)
async def test_wrong_routes_and_methods(tmp_path: Path, method: str, path: str, status: int, code: str) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        for name in ("x-request-id", "x-turnout-config", "x-turnout-overhead-ms"):
            assert name in answer.headers
        if status == 405:
            assert answer.headers["allow"]


async def test_a_fault_of_ours_is_a_500_without_a_traceback(tmp_path: Path) -> None:
    def bug() -> errors.BackendError:
        raise RuntimeError("a bug, with a secret in it")

    backend = ScriptedBackend("a", scripts=[Script(fail_after=0, error=bug)])
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(CHAT, json=body())
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert "secret" not in answer.text
        assert gateway.gateway.fleet.state.load("a").sequences == 0
        assert gateway.gateway.metrics.cost.total() == 0
        assert dict(gateway.gateway.metrics.upstream_errors.items()) == {("a", "error"): 1}
        assert gateway.gateway.metrics.wasted.total() == 0


async def test_aliases_are_models(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(CHAT, json=body(model="alias-of-m"))
        assert answer.json()["model"] == "m"
        listed = (await client.get("/v1/models")).json()["data"]
        assert [model["id"] for model in listed] == ["m", "alias-of-m"]


async def test_a_drained_fleet_says_so(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        gateway.gateway.fleet.set_drained("a", 0, drained=True)
        answer = await client.post(CHAT, json=body())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_backend")
        assert answer.headers["retry-after-ms"] == "5000"
        assert (answer.headers["x-turnout-cache"], answer.headers["x-turnout-attempts"]) == ("off", "0")


async def test_drain_and_undrain_on_the_admin_port(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient() as client:
        drained = await client.post(f"{gateway.admin_url}/admin/backends/a/drain")
        assert drained.json()["drained"]
        assert (await client.post(gateway.url + CHAT, json=body())).status_code == 503
        assert not (await client.post(f"{gateway.admin_url}/admin/backends/a/undrain")).json()["drained"]
        assert (await client.post(gateway.url + CHAT, json=body())).status_code == 200
        missing = await client.post(f"{gateway.admin_url}/admin/backends/nobody/drain")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "backend_not_found")


async def test_a_dry_run_says_that_nothing_was_looked_up_or_sent(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(CHAT, json=body(), headers={"x-turnout-dry-run": "1"})
        assert (answer.headers["x-turnout-cache"], answer.headers["x-turnout-attempts"]) == ("off", "0")
        assert answer.headers["x-turnout-backend"] == "a"
        assert backend.requests == []


async def test_waiting_for_a_backend_that_fails_is_not_our_overhead(tmp_path: Path) -> None:
    slow = Script(fail_after=0, delay_s=0.3, error=lambda: errors.BackendTimeout("no first byte"))
    backends = [ScriptedBackend("a", scripts=[slow]), ScriptedBackend("b", scripts=[Script(WORDS)])]
    loaded = scripted_config(tmp_path, backends)
    async with running(loaded, backends) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(CHAT, json=body())
        assert answer.headers["x-turnout-attempts"] == "2"
        assert float(answer.headers["x-turnout-overhead-ms"]) < 200
        gateway.gateway.fleet.set_drained("b", 0, drained=True)
        failed = await client.post(CHAT, json=body())
        assert failed.status_code == 504
        assert float(failed.headers["x-turnout-overhead-ms"]) < 200


async def test_failed_requests_break_their_promises_and_departed_clients_do_not(tmp_path: Path) -> None:
    cut = Script(WORDS, fail_after=2, error=lambda: errors.StreamCut("cut"))
    backend = ScriptedBackend("a", scripts=[Script(WORDS), DOWN, cut, Script(WORDS, hang_before=2)])
    loaded = scripted_config(tmp_path, [backend])
    headers = {"x-slo-ttft-ms": "60000", "x-slo-tpot-ms": "60000", "x-slo-e2e-ms": "60000"}
    async with running(loaded, [backend]) as gateway:
        metrics = gateway.gateway.metrics

        def judged() -> dict[str, int]:
            return {labels[2]: count for labels, count in metrics.slo.items() if labels[1] == "e2e"}

        async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as client:
            assert (await client.post(CHAT, json=body())).status_code == 200
            assert judged() == {"good": 1}
            assert (await client.post(CHAT, json=body())).status_code == 502
            assert judged() == {"good": 1, "bad": 1}
            assert "error" in (await client.post(CHAT, json=body(stream=True))).text
            assert judged() == {"good": 1, "bad": 2}
            async with client.stream("POST", CHAT, json=body(stream=True)) as response:
                await anext(response.aiter_bytes())
            await until(lambda: metrics.disconnects.total() == 1)
            assert judged() == {"good": 1, "bad": 2}


async def test_a_backend_that_cannot_even_begin_frees_its_place(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend])

    def broken(request: object) -> ScriptedGeneration:
        raise RuntimeError("a bug")

    backend.generate = broken  # type: ignore[method-assign]
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.post(CHAT, json=body())).status_code == 500
        load = gateway.gateway.fleet.state.load("a")
        assert (load.sequences, load.pending_prompt_tokens) == (0, 0)


async def test_a_batch_of_prompts_is_held_against_the_context_one_by_one(tmp_path: Path) -> None:
    backend = ScriptedBackend("a", context=1000)
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        fits = {"model": "m", "prompt": ["word " * 500] * 8}
        assert (await client.post("/v1/completions", json=fits)).status_code == 200
        answer = await client.post("/v1/completions", json={"model": "m", "prompt": ["word", "word " * 5000]})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (400, "prompt", "context_length_exceeded")


async def test_the_field_that_asks_too_much_is_named(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        asks: list[tuple[dict[str, object], str]] = [
            ({"response_format": {"type": "json_object"}}, "response_format"),
            ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
        ]
        for fields, param in asks:
            answer = await client.post(CHAT, json=body(**fields))
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_half_a_body_and_then_nothing_leaves_no_trace(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{" % CHAT.encode())
        await until(lambda: gateway.gateway.metrics.requests.total() == 1)
        assert backend.requests == []


async def test_what_is_not_http_is_refused_in_the_usual_shape(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"NONSENSE\r\n\r\n")
        answer = await reader.read()
        writer.close()
        head, _, sent = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(sent)["error"]["code"] == "invalid_http"
        assert (await client.head("/healthz")).status_code == (await client.head("/readyz")).status_code == 200
