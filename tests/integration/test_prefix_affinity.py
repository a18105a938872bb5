"""A conversation goes where its beginning was read, through a whole gateway."""

from __future__ import annotations

from pathlib import Path

import httpx

from app.config.load import load
from tests.gateways import running

CHAT = "/v1/chat/completions"
SYSTEM = "These are the rules of the house, and there are many of them. " * 400


async def test_the_second_turn_is_sent_where_the_first_was_and_found_in_its_cache(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text(
        "version: 1\nextends: shipped\ncache: {type: off}\n"
        f"ledger: {{path: {tmp_path / 'ledger.sqlite3'}}}\nrouting: {{exploration: {{epsilon: 0}}}}\n"
    )
    async with running(load(path)) as at, httpx.AsyncClient(base_url=at.url, timeout=30) as client:
        turns = []
        for question in ("first", "second"):
            body = {
                "model": "llama-3.1-8b",
                "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}],
                "max_tokens": 4,
            }
            turns.append(await client.post(CHAT, json=body, headers={"x-turnout-debug": "1"}))
        first, second = (each.json() for each in turns)
    assert turns[0].headers["x-turnout-backend"] == turns[1].headers["x-turnout-backend"]
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 1000
    receipt = second["turnout"]["decision"]
    chosen = next(each for each in receipt["candidates"] if each["backend"] == receipt["chosen"])
    assert chosen["predicted"]["cached_tokens"] > 1000
