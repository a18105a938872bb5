"""`turnout explain --state`: what a gateway would decide next, without the gateway."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from app.cli import main
from app.config.load import load, shipped
from tests.gateways import running

MODEL = "llama-3.3-70b"
CHAT = "/v1/chat/completions"


def explain(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["explain", *arguments], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def alike(one: Any, other: Any) -> bool:
    """Equal, but for numbers that the milliseconds between two decisions change a little (a backend at work moves on,
    what was learned ages)."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one if key != "id")
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return bool(one == pytest.approx(other, rel=0.1, abs=0.02))
    return bool(one == other)


async def test_it_is_the_decision_the_gateway_makes_next(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text(
        f"version: 1\nextends: shipped\ncache: {{type: off}}\nledger: {{path: {tmp_path / 'ledger.sqlite3'}}}\n"
    )
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 200}
    state = tmp_path / "state.json"
    async with running(load(path)) as at, httpx.AsyncClient(base_url=at.url, timeout=30) as client:
        for number in range(8):
            sent = {**body, "max_tokens": 2 + number, "user": str(number)}
            policy = {"x-turnout-policy": ["round-robin", "cheapest-slo"][number % 2]}
            assert (await client.post(CHAT, json=sent, headers=policy)).status_code == 200
        await client.post(f"{at.admin_url}/admin/backends/groq-70b/drain")
        async with client.stream("POST", CHAT, json={**body, "stream": True, "max_tokens": 5000, "ignore_eos": True}):
            state.write_text((await client.get(f"{at.admin_url}/admin/state")).text)
            dry = {"x-turnout-dry-run": "1", "x-slo-ttft-ms": "2000"}
            live = (await client.post(CHAT, json=body, headers=dry)).json()
    code, out, err = explain(
        "-c", str(path), "--state", str(state), "--model", MODEL, "--prompt", "hi", "--slo", "ttft=2s", "--json"
    )
    assert (code, err) == (0, "")
    offline = json.loads(out)
    assert live.pop("object") == "turnout.decision"
    assert alike(offline, live), (offline, live)
    assert any(candidate["in_flight"] for candidate in offline["candidates"])
    assert {"backend": "groq-70b", "reason": "drained"} in offline["rejected"]
    fresh = json.loads(explain("-c", str(path), "--model", MODEL, "--prompt", "hi", "--slo", "ttft=2s", "--json")[1])
    assert fresh["candidates"] != offline["candidates"]


def test_a_state_of_another_configuration_is_warned_of_and_one_that_is_none_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"config": "another", "state": {"version": 2}}))
    code, out, err = explain("--state", str(state))
    assert code == 0
    assert "warning: the state is of configuration another" in err
    assert "WINS" in out
    for text in ("", "[]", "{}", '{"state": {"version": 7}}', '{"state": {"version": 2}, "next_decision": -1}'):
        state.write_text(text)
        code, _, err = explain("--state", str(state))
        assert code == 1, text
        assert "Traceback" not in err
        assert len(err.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--id", "d-1", "--state", "STATE"),
        ("--id", "d-1", "-c", "STATE"),
        ("--id", "d-1", "--model", "m"),
        ("--state", "no such file"),
        ("--state", "STATE", "--url", "http://127.0.0.1:9"),
        ("-c", "STATE", "--url", "http://127.0.0.1:9"),
        ("--prompt", "hi", "--prompt-tokens", "5"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    state = tmp_path / "state.json"
    state.write_text("{}")
    assert explain(*[str(state) if each == "STATE" else each for each in arguments])[0] == 2


SMALL = """
version: 1
slo: {interactive: {ttft_ms: 1000, tpot_ms: 50}}
models: {llama-3.1-8b: {}}
backends:
  - {name: h100, kind: gpu, chip: h100, chips: 1, deployments: [{model: llama-3.1-8b, precision: fp8}], drained: false,
     pricing: {type: chip_hours, usd_per_chip_hour: 3.99, source: test, confidence: assumed}}
"""


async def test_without_a_model_the_first_configured_one_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text(SMALL + f"ledger: {{path: {tmp_path / 'ledger.sqlite3'}}}\n")
    code, out, _ = explain("-c", str(path))
    assert (code, "llama-3.1-8b: about" in out) == (0, True)
    async with running(load(path)) as at:
        code, out, _ = await asyncio.to_thread(explain, "--url", at.url)
    assert (code, "llama-3.1-8b: about" in out) == (0, True)


async def test_nobody_can_serve_it_exits_1(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text(SMALL.replace("drained: false", "drained: true") + f"ledger: {{path: {tmp_path / 'l.sqlite3'}}}\n")
    code, out, _ = explain("-c", str(path))
    assert (code, "nobody can serve this" in out) == (1, True)
    async with running(load(path)) as at:
        code, out, _ = await asyncio.to_thread(explain, "--url", at.url, "--json")
    assert (code, json.loads(out)["chosen"]) == (1, None)


def test_an_unknown_model_is_said(tmp_path: Path) -> None:
    code, _, err = explain("-c", str(shipped() / "turnout.yaml"), "--model", "nobody")
    assert (code, "does not exist" in err) == (1, True)
