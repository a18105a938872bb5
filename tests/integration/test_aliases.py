"""Aliases over the wire: where a session goes, and where it is shown."""

from __future__ import annotations

from pathlib import Path

import httpx

from app.config.load import load
from tests.gateways import running

CONFIG = """
version: 1
extends: shipped
cache: {type: off}
ledger: {path: %s}
aliases:
  fast: llama-3.1-8b
  prod: {llama-3.3-70b: 50, llama-3.1-8b: 50}
"""


def body(model: str, **fields: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, **fields}


async def test_a_session_stays_and_everything_tells_where_it_went(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text(CONFIG % (tmp_path / "ledger.sqlite3"))
    async with running(load(path)) as at, httpx.AsyncClient(base_url=at.url, timeout=20) as client:

        async def served(**fields: object) -> str:
            session = {"x-turnout-session": str(fields.pop("session"))} if "session" in fields else {}
            answer = await client.post("/v1/chat/completions", json=body("prod", **fields), headers=session)
            model: str = answer.json()["model"]
            decision = answer.headers["x-turnout-decision"]
            receipt = (await client.get(f"{at.admin_url}/admin/decisions/{decision}")).json()
            assert (receipt["request"]["alias"], receipt["request"]["model"]) == ("prod", model)
            return model

        for key in ("session", "user"):
            sides = [{await served(**{key: f"{key}-{number}"}) for _ in range(3)} for number in range(8)]
            assert all(len(side) == 1 for side in sides)
            assert set.union(*sides) == {"llama-3.3-70b", "llama-3.1-8b"}
        assert len({await served(session="s", user=f"u{number}", seed=number) for number in range(8)}) == 1
        assert len({await served() for _ in range(20)}) == 2

        fast = await client.post("/v1/chat/completions", json=body("fast"))
        assert fast.json()["model"] == "llama-3.1-8b"
        counted = dict(at.gateway.metrics.aliases.items())
        assert counted["fast", "llama-3.1-8b"] == 1
        assert counted["prod", "llama-3.3-70b"] + counted["prod", "llama-3.1-8b"] == 48 + 8 + 20
        assert at.gateway.metrics.label_overflow.total() == 0

        listed = {each["id"]: each["turnout"] for each in (await client.get("/v1/models")).json()["data"]}
        assert listed["fast"]["shares"] == {"llama-3.1-8b": 1.0}
        assert listed["prod"]["shares"] == {"llama-3.3-70b": 0.5, "llama-3.1-8b": 0.5}
        assert (await client.get("/v1/models/prod")).json()["id"] == "prod"
        long = await client.post("/v1/chat/completions", json=body("prod"), headers={"x-turnout-session": "s" * 257})
        assert (long.status_code, long.json()["error"]["param"]) == (400, "x-turnout-session")


async def test_weights_change_by_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text(CONFIG % (tmp_path / "ledger.sqlite3"))
    async with running(load(path)) as at, httpx.AsyncClient(timeout=20) as client:
        path.write_text((CONFIG % (tmp_path / "ledger.sqlite3")).replace("70b: 50", "70b: 0"))
        done = (await client.post(f"{at.admin_url}/admin/config/reload")).json()
        assert done["aliases"] == {"added": [], "removed": [], "changed": ["prod"]}
        assert done["backends"]["rebuilt"] == []
        for number in range(8):
            answer = await client.post(f"{at.url}/v1/chat/completions", json=body("prod", user=str(number)))
            assert answer.json()["model"] == "llama-3.1-8b"
