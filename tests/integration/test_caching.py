"""The exact cache and single flight through a whole gateway: what is asked again, what is given again, and to whom."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config.caching import CacheRule, MemoryCache
from app.config.models import ModelConfig
from backends.errors import StreamCut
from tests.fakes import Script, ScriptedBackend
from tests.gateways import Running, running, scripted_config, until

CHAT = "/v1/chat/completions"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 9, **fields}


def client_of(gateway: Running) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.url, timeout=30, limits=httpx.Limits(max_connections=2000))


def said(answer: httpx.Response) -> str:
    """The text of a whole answer or of a stream."""
    if "event-stream" not in answer.headers["content-type"]:
        text = answer.json()["choices"][0]["message"]["content"]
        assert isinstance(text, str)
        return text
    frames = [frame.removeprefix("data: ") for frame in answer.text.split("\n\n") if frame]
    assert frames[-1] == "[DONE]"
    listed = [json.loads(frame) for frame in frames[:-1]]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in listed if chunk["choices"])


@pytest.mark.parametrize("first", [True, False])
async def test_a_stream_is_given_again_as_whole_and_the_other_way_round(tmp_path: Path, first: bool) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        for stream, expected in ((first, "miss"), (not first, "hit"), (first, "hit")):
            answer = await client.post(CHAT, json=body(stream=stream))
            assert (answer.headers["x-turnout-cache"], said(answer)) == (expected, "hello world")
        assert answer.headers["age"] == "0"
        metrics = (await client.get(f"{gateway.admin_url}/metrics")).text
    assert len(backend.requests) == 1
    assert 'turnout_cache_lookups_total{kind="exact",model="m",result="hit"} 2.0' in metrics
    assert 'turnout_cache_saved_tokens_total{kind="exact",model="m"} 4.0' in metrics


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"cache-control": "no-store"}, "off"),
        ({"cache-control": "no-cache"}, "miss"),
        ({"cache-control": "max-age=0"}, "miss"),
        ({"cache-control": "max-age=3600, stale-if-error=5"}, "hit"),
        ({"cache-control": "only-if-cached"}, "hit"),
        ({"cache-control": "no-store", "x-turnout-cache": "only"}, "hit"),
        ({"x-turnout-cache": "off"}, "off"),
        ({"x-turnout-cache": "refresh"}, "miss"),
    ],
)
async def test_a_request_may_say_what_it_wants(tmp_path: Path, headers: dict[str, str], expected: str) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        await client.post(CHAT, json=body())
        answer = await client.post(CHAT, json=body(), headers=headers)
        assert (answer.status_code, answer.headers["x-turnout-cache"]) == (200, expected)
        for nonsense in ("max-age=soon", "max-age=-1", "max-age=" + "9" * 40, "max-age"):
            refused = await client.post(CHAT, json=body(), headers={"cache-control": nonsense})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cache-control")
        absent = await client.post(CHAT, json=body(seed=9), headers={"cache-control": "only-if-cached"})
        assert (absent.status_code, absent.json()["error"]["code"]) == (404, "cache_miss")


async def test_a_model_has_rules_of_its_own(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    for when, expected in (("off", ["off", "off"]), ("always", ["miss", "hit"]), (None, ["off", "off"])):
        models = {"m": ModelConfig(cache=CacheRule(when=when))}  # type: ignore[arg-type]
        loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"), models=models)
        asked = body(temperature=0.7) if when != "off" else body()
        async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
            found = [(await client.post(CHAT, json=asked)).headers["x-turnout-cache"] for _ in range(2)]
        assert found == expected


async def test_an_answer_that_a_limit_of_ours_cut_is_not_kept(tmp_path: Path) -> None:
    backend = ScriptedBackend("a", scripts=[Script(words=tuple("abcdefghij"))])
    models = {"m": ModelConfig(default_max_tokens=3)}
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"), models=models)
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        for limit, expected in ((None, ["miss", "miss"]), (3, ["miss", "hit"])):
            answers = [await client.post(CHAT, json=body(max_tokens=limit)) for _ in range(2)]
            assert [answer.json()["choices"][0]["finish_reason"] for answer in answers] == ["length"] * 2
            assert [answer.headers["x-turnout-cache"] for answer in answers] == expected


async def test_past_its_time_an_answer_is_given_while_a_new_one_is_made(tmp_path: Path) -> None:
    backend = ScriptedBackend("a", scripts=[Script(), Script(words=("new",))])
    cache = MemoryCache(type="memory", ttl_s=0.2, stale_s=60)
    loaded = scripted_config(tmp_path, [backend], cache=cache)
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        assert said(await client.post(CHAT, json=body())) == "hello world"
        await asyncio.sleep(0.25)
        stale = [await client.post(CHAT, json=body()) for _ in range(1)]
        assert [(said(each), each.headers["x-turnout-cache"]) for each in stale] == [("hello world", "hit")]
        async with asyncio.timeout(5):
            while said(fresh := await client.post(CHAT, json=body(), headers={"x-turnout-cache": "only"})) != "new":
                await asyncio.sleep(0.01)
        assert fresh.headers["x-turnout-cache"] == "hit"
        metrics = (await client.get(f"{gateway.admin_url}/metrics")).text
    assert 'result="stale"' in metrics
    assert len(backend.requests) >= 2


async def test_a_thousand_identical_requests_are_one_generation(tmp_path: Path) -> None:
    gate = asyncio.Event()
    backend = ScriptedBackend("a", scripts=[Script(hang_before=1, gate=gate)])
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        asked = [asyncio.create_task(client.post(CHAT, json=body(stream=True))) for _ in range(1000)]
        await until(lambda: gateway.gateway.edition.hot.in_flight == 1000, within_s=30)
        gate.set()
        answers = await asyncio.gather(*asked)
        metrics = (await client.get(f"{gateway.admin_url}/metrics")).text
    assert {said(answer) for answer in answers} == {"hello world"}
    results = [answer.headers["x-turnout-cache"] for answer in answers]
    assert sorted(set(results)) == ["coalesced", "miss"]
    assert results.count("miss") == 1
    assert len(backend.requests) == 1
    assert 'turnout_cache_saved_tokens_total{kind="coalesced",model="m"} 1998.0' in metrics


async def test_who_asked_first_may_leave_and_the_others_read_on(tmp_path: Path) -> None:
    gate = asyncio.Event()
    backend = ScriptedBackend("a", scripts=[Script(hang_before=1, gate=gate)])
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        hot = gateway.gateway.edition.hot
        first = asyncio.create_task(client.post(CHAT, json=body()))
        await until(lambda: bool(backend.requests))
        others = [asyncio.create_task(client.post(CHAT, json=body())) for _ in range(3)]
        await until(lambda: hot.in_flight == 4)
        first.cancel()
        others[0].cancel()
        await until(lambda: hot.in_flight <= 2)
        gate.set()
        answers = await asyncio.gather(*others[1:])
        assert [said(answer) for answer in answers] == ["hello world"] * 2
        assert len(backend.requests) == 1
        assert answers[0].headers["x-turnout-saved-usd"] > "0"
        assert answers[0].headers["x-turnout-cost-usd"] == "0.000000000"


async def test_when_the_last_reader_leaves_the_generation_ends(tmp_path: Path) -> None:
    backend = ScriptedBackend("a", scripts=[Script(hang_before=1)])
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        asked = [asyncio.create_task(client.post(CHAT, json=body())) for _ in range(3)]
        await until(lambda: gateway.gateway.edition.hot.in_flight == 3 and bool(backend.requests))
        for each in asked:
            each.cancel()
        await until(lambda: not backend.running)


@pytest.mark.parametrize("after", [0, 1])
async def test_a_failure_is_everybodys_and_is_not_kept(tmp_path: Path, after: int) -> None:
    gate = asyncio.Event()
    broken = Script(hang_before=after, gate=gate, fail_after=after, error=lambda: StreamCut("it broke"))
    backend = ScriptedBackend("a", scripts=[broken])
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        asked = [asyncio.create_task(client.post(CHAT, json=body())) for _ in range(5)]
        await until(lambda: gateway.gateway.edition.hot.in_flight == 5)
        gate.set()
        answers = await asyncio.gather(*asked)
        assert [answer.status_code for answer in answers] == [502] * 5
        assert {answer.json()["error"]["code"] for answer in answers} == {"upstream_failed"}
        again = await client.post(CHAT, json=body())
        assert again.status_code == 502


async def test_followers_are_bounded(tmp_path: Path) -> None:
    gate = asyncio.Event()
    backend = ScriptedBackend("a", scripts=[Script(hang_before=1, gate=gate)])
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory", max_followers=2))
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        asked = [asyncio.create_task(client.post(CHAT, json=body())) for _ in range(6)]
        await until(lambda: gateway.gateway.edition.hot.in_flight == 6)
        gate.set()
        answers = await asyncio.gather(*asked)
    assert [answer.headers["x-turnout-cache"] for answer in answers].count("coalesced") == 4
    assert len(backend.requests) == 2


async def test_the_admin_port_counts_empties_and_forgets(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        url = f"{gateway.admin_url}/admin/cache"
        for seed in range(3):
            await client.post(CHAT, json=body(seed=seed))
        told = (await client.get(url)).json()
        assert (told["memory"]["entries"], told["redis"]) == (3, None)
        assert told["lookups"] == {"found_in_memory": 0, "found_in_redis": 0, "not_found": 3}
        hit = await client.post(CHAT, json=body(seed=0), headers={"x-turnout-debug": "1"})
        entry = hit.json()["turnout"]["cache_entry"]
        assert (await client.delete(f"{url}/{entry}")).status_code == 200
        assert (await client.post(CHAT, json=body(seed=0))).headers["x-turnout-cache"] == "miss"
        assert (await client.delete(f"{url}/no-digits")).json()["error"]["param"] == "entry"
        assert (await client.delete(url)).json()["memory"]["entries"] == 0
        assert (await client.post(CHAT, json=body(seed=1))).headers["x-turnout-cache"] == "miss"
    loaded = scripted_config(tmp_path, [backend])
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        answer = await client.get(f"{gateway.admin_url}/admin/cache")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_cache")


async def test_the_command_line_shows_and_empties_it(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, client_of(gateway) as client:
        await client.post(CHAT, json=body())

        async def turnout(*arguments: str) -> tuple[int | None, str]:
            command = [sys.executable, "-m", "app", "cache", *arguments, "--admin-url", gateway.admin_url]
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
            return process.returncode, out.decode()

        code, out = await turnout("stats", "--json")
        assert (code, json.loads(out)["memory"]["entries"]) == (0, 1)
        code, out = await turnout("flush")
        assert code == 0
        assert "used bytes" in out
        assert (await client.post(CHAT, json=body())).headers["x-turnout-cache"] == "miss"
