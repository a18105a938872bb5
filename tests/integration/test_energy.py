"""Joules beside cost: what requests took and what the backend took, idle included, from one estimate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx

from app.config.load import LoadedConfig, load
from app.config.models import LedgerConfig
from tests.gateways import running


def only(folder: Path, *backends: str) -> LoadedConfig:
    shipped = load()
    config = shipped.config.model_copy(
        update={
            "backends": tuple(each for each in shipped.config.backends if each.name in backends),
            "models": {
                "llama-3.1-8b": shipped.config.models["llama-3.1-8b"].model_copy(update={"reference_backend": None})
            },
            "ledger": LedgerConfig(path=folder / "ledger.sqlite3"),
        }
    )
    return replace(shipped, config=config)


async def ask(url: str) -> dict[str, object]:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        body = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 30}
        answer = await client.post("/v1/chat/completions", json=body)
        usage: dict[str, object] = answer.json()["usage"]
        return usage


def scrape(text: str, name: str) -> list[float]:
    return [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + "{")]


async def test_answers_metrics_and_backend_agree(tmp_path: Path) -> None:
    async with running(only(tmp_path, "h100-8b")) as gateway, httpx.AsyncClient(trust_env=False) as client:
        told = [(await ask(gateway.url))["energy_estimate_j"] for _ in range(3)]
        backend = gateway.gateway.fleet.backends["h100-8b"]
        power, now = backend.info.power, backend.snapshot()
        assert power is not None
        assert all(isinstance(each, float) and each > 0 for each in told)
        busy_j = power.energy_j(now.busy_ns)
        assert abs(sum(told) - busy_j) < 1e-6  # type: ignore[arg-type]
        text = (await client.get(f"{gateway.admin_url}/metrics")).text
        assert abs(sum(scrape(text, "turnout_energy_estimate_joules_total")) - busy_j) < 1e-6
        assert scrape(text, "turnout_backend_energy_estimate_joules_total")[0] > busy_j  # idle draws, too
        shown = (await client.get(f"{gateway.admin_url}/admin/backends")).json()["backends"][0]["power_estimate"]
        assert shown["busy_w"] == power.busy_w


async def test_without_a_public_tdp_it_is_null(tmp_path: Path) -> None:
    async with running(only(tmp_path, "tpu-8b")) as gateway, httpx.AsyncClient(trust_env=False) as client:
        assert (await ask(gateway.url))["energy_estimate_j"] is None
        text = (await client.get(f"{gateway.admin_url}/metrics")).text
        assert not scrape(text, "turnout_energy_estimate_joules_total")
        assert not scrape(text, "turnout_backend_energy_estimate_joules_total")
