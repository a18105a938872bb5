"""Every nano-dollar once: ledger = the integers behind each metric = responses + cancelled + failed attempts."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.config.caching import CacheOff, MemoryCache
from app.config.load import load
from app.config.models import LedgerConfig
from backends import errors
from tests.fakes import Script, ScriptedBackend
from tests.gateways import Running, running, scripted_config, until

NS_PER_HOUR, H100_NUSD_PER_HOUR = 3_600_000_000_000, 3_990_000_000
CHAT = "/v1/chat/completions"
WORDS = tuple(f" w{number}" for number in range(20))


def body(**fields: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": "one two three"}], **fields}


def ledger_rows(path: Path) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute("SELECT * FROM requests ORDER BY id").fetchall()


def scrape(text: str, name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + "{"))


async def stream_then_leave(client: httpx.AsyncClient, chunks: int) -> None:
    async with client.stream("POST", CHAT, json=body(stream=True)) as response:
        seen = 0
        async for _ in response.aiter_lines():
            seen += 1
            if seen >= chunks:
                break


async def settled(gateway: Running, rows: int) -> None:
    """Wait until so many attempts have been billed."""
    async with asyncio.timeout(10):
        while gateway.gateway.metrics.requests.total() < rows:
            await asyncio.sleep(0.01)


async def test_with_cancels_and_failures_every_book_agrees(tmp_path: Path) -> None:
    def down() -> errors.BackendError:
        return errors.Unavailable("down by script")

    scripts = [
        Script(WORDS),
        Script(WORDS, fail_after=0, error=down),
        Script(WORDS, fail_after=6),
        Script(WORDS, hang_before=4),
    ]
    backends = [ScriptedBackend("a", scripts=scripts * 4), ScriptedBackend("b", scripts=scripts[::-1] * 4)]
    loaded = scripted_config(tmp_path, backends)
    delivered = 0
    async with running(loaded, backends) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        offered = 0
        for number in range(10):
            offered += 1
            try:
                async with asyncio.timeout(0.3):
                    if number % 3 == 0:
                        await stream_then_leave(client, 4)
                    else:
                        response = await client.post(CHAT, json=body())
                        if response.status_code == 200:
                            delivered += round(response.json()["usage"]["cost"] * 1e9)
            except TimeoutError:
                pass  # a hung backend: the client gives up, which cancels the attempt
        await settled(gateway, offered)
        metrics = gateway.gateway.metrics
        exported = (await client.get(f"{gateway.admin_url}/metrics")).text
        integer = metrics.cost.total()
    rows = ledger_rows(tmp_path / "ledger.sqlite3")
    by_outcome: dict[str, int] = {}
    for row in rows:
        by_outcome[row["outcome"]] = by_outcome.get(row["outcome"], 0) + row["cost_nusd"]
    assert set(by_outcome) == {"ok", "cancelled", "failed"}
    assert all(by_outcome.values()), "each kind of ending must have cost something for this to prove anything"
    assert sum(by_outcome.values()) == integer
    assert by_outcome["ok"] >= delivered
    assert sum(row["cost_nusd"] for row in rows if row["outcome"] == "ok" and not row["stream"]) == delivered
    assert scrape(exported, "turnout_cost_usd_total") == pytest.approx(integer / 1e9, rel=1e-12)
    assert scrape(exported, "turnout_wasted_cost_usd_total") * 1e9 == pytest.approx(
        by_outcome["cancelled"] + by_outcome["failed"]
    )
    for kind in ("prompt", "completion"):
        tokens = sum(row[f"{kind}_tokens"] for row in rows)
        labelled = sum(amount for labels, amount in metrics.tokens.items() if labels[-1] == kind)
        assert labelled == tokens
    assert metrics.list_cost.total() == sum(row["list_nusd"] for row in rows)


async def test_chip_hours_requests_and_idle_add_up_to_what_was_bought(tmp_path: Path) -> None:
    shipped = load()
    config = shipped.config.model_copy(
        update={
            "cache": CacheOff(type="off"),
            "ledger": LedgerConfig(path=tmp_path / "ledger.sqlite3", flush_interval_s=0.05),
        }
    )
    loaded = replace(shipped, config=config, warnings=())
    name, before_ns = "h100-8b", time.monotonic_ns()
    async with running(loaded) as gateway, httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        for each in gateway.gateway.fleet.backends:
            if each != name:
                gateway.gateway.fleet.set_drained(each, 0, drained=True)
        started_ns = time.monotonic_ns()
        fields = {"model": "llama-3.1-8b", "max_tokens": 40}
        answers = await asyncio.gather(*(client.post(CHAT, json=body() | fields) for _ in range(12)))
        assert all(answer.headers["x-turnout-backend"] == name for answer in answers)
        endless = body() | {"model": "llama-3.1-8b", "max_tokens": 4000, "ignore_eos": True, "stream": True}
        async with client.stream("POST", CHAT, json=endless) as stream:
            await anext(stream.aiter_bytes())
        backend = gateway.gateway.fleet.backends[name]
        await until(lambda: backend.snapshot().running == 0)
        until_ns = time.monotonic_ns()
        snapshot = backend.snapshot()
        after_ns = time.monotonic_ns()
        metrics = gateway.gateway.metrics
        await until(lambda: metrics.wasted.total() > 0)
    rows = ledger_rows(tmp_path / "ledger.sqlite3")
    assert [row["outcome"] for row in rows].count("cancelled") == 1
    shares_ns = sum(row["prompt_engine_ns"] + row["completion_engine_ns"] for row in rows)
    assert shares_ns == snapshot.busy_ns, "every busy nanosecond belongs to a request"
    billed = sum(row["cost_nusd"] for row in rows)
    assert billed == snapshot.busy_ns * H100_NUSD_PER_HOUR // NS_PER_HOUR == metrics.cost.total()
    assert metrics.wasted.total() == sum(row["cost_nusd"] for row in rows if row["outcome"] == "cancelled")
    assert metrics.reference_cost.total() == sum(row["reference_nusd"] for row in rows)
    # Busy and idle are clocks of their own: together they must be the time that went by, as a third clock has it.
    assert until_ns - started_ns <= snapshot.busy_ns + snapshot.idle_ns <= after_ns - before_ns
    idle = snapshot.idle_ns * H100_NUSD_PER_HOUR // NS_PER_HOUR
    bought = (snapshot.busy_ns + snapshot.idle_ns) * H100_NUSD_PER_HOUR // NS_PER_HOUR
    assert bought - 1 <= billed + idle <= bought


async def test_a_cache_hit_bills_nothing_and_records_what_it_saved(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        first = await client.post(CHAT, json=body(temperature=0))
        second = await client.post(CHAT, json=body(temperature=0))
        assert second.json()["choices"] == first.json()["choices"]
        assert gateway.gateway.metrics.cache_saved.total() == round(first.json()["usage"]["cost"] * 1e9)
    rows = ledger_rows(tmp_path / "ledger.sqlite3")
    assert [(row["outcome"], row["cost_nusd"], row["saved_nusd"]) for row in rows] == [
        ("ok", 7000, None),
        ("cached", 0, 7000),
    ]
    assert len(backend.requests) == 1


async def test_a_failed_or_cut_answer_is_never_cached(tmp_path: Path) -> None:
    backend = ScriptedBackend("a", scripts=[Script(WORDS, fail_after=3), Script(WORDS)])
    loaded = scripted_config(tmp_path, [backend], cache=MemoryCache(type="memory"))
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.post(CHAT, json=body(seed=1))).status_code == 502
        again = await client.post(CHAT, json=body(seed=1))
        assert again.headers["x-turnout-cache"] == "miss"
        assert (await client.post(CHAT, json=body(seed=1))).headers["x-turnout-cache"] == "hit"
