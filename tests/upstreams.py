"""Real services for tests: one that answers over the fake transport, and `turnout emulate` in this event loop."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from app.config.load import LoadedConfig, load
from app.emulate.app import EmulatedServer
from app.emulate.catalog import choose
from app.emulate.faults_file import FaultsFile, read
from app.emulate.server import Options, build
from backends.base import Backend
from backends.clock import SystemClock
from backends.types import (
    EmulationSpec,
    LatencyProfile,
    LiveDeploymentSpec,
    LiveSpec,
    LiveTimeouts,
    Substrate,
)
from backends.upstream.backend import LiveBackend
from backends.upstream.build import live
from backends.upstream.transport import FakeReply, Request, Transport
from tests.gateways import listening
from tests.sheets import sheets

MODEL = "llama-3.1-8b"
PROFILE = LatencyProfile(0.01, 1e-5, 0.01, 1e-5, 64, "parallel")
JSON = {"content-type": "application/json"}


def sse(*events: Any, done: bool = True) -> bytes:
    """Events as a stream; dictionaries as JSON."""
    listed = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return b"".join(f"data: {event}\n\n".encode() for event in [*listed, *(["[DONE]"] if done else [])])


def delta(text: str | None = None, index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a chat."""
    said = {} if text is None else {"content": text}
    choice = {"index": index, "delta": {**said, **fields}, "logprobs": None, "finish_reason": finish}
    return {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "upstream-m", "choices": [choice]}


def usage_chunk(prompt: int, completion: int, **details: Any) -> dict[str, Any]:
    """The chunk that says what it took."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **details}
    return {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "upstream-m", "choices": [],
            "usage": usage}  # fmt: skip


def echo(request: Request) -> FakeReply:
    """A service that says `w0 w1 ...` up to the limit, in any of its endpoints' forms."""
    if request.method == "GET":
        return FakeReply((b"{}",), headers=JSON)
    body = json.loads(request.body)
    prompts = [body["messages"][0]["content"]] if "messages" in body else body["prompt"]
    prompts = [prompts] if isinstance(prompts, str) else prompts
    chat, words = "messages" in body, [f"w{n} " for n in range(body.get("max_tokens", 16))]
    choices = len(prompts) * body.get("n", 1)
    usage = {"prompt_tokens": sum(len(p.split()) for p in prompts), "completion_tokens": choices * len(words)}
    if not body.get("stream"):
        text = "".join(words)
        listed = [
            {"index": n, "finish_reason": "length", **({"message": {"content": text}} if chat else {"text": text})}
            for n in range(choices)
        ]
        return FakeReply(
            (json.dumps({"model": "upstream-m", "choices": listed, "usage": usage}).encode(),), headers=JSON
        )
    pieces = []
    for index in range(choices):
        for word in words:
            said: dict[str, Any] = {"delta": {"content": word}} if chat else {"text": word}
            pieces.append(sse({"choices": [{"index": index, **said}]}, done=False))
        ended: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        pieces.append(sse({"choices": [{"index": index, **ended, "finish_reason": "length"}]}, done=False))
    return FakeReply((*pieces, sse({"choices": [], "usage": usage})))


def live_backend(url: str = "http://upstream", transport: Transport | None = None, **fields: Any) -> LiveBackend:
    """A live backend serving one model, not yet started."""
    name: str = fields.pop("name", "up")
    deployment = LiveDeploymentSpec(
        fields.pop("model", MODEL),
        fields.pop("upstream_model", None),
        context_tokens=131_072,
        capabilities=fields.pop("capabilities", frozenset({"n"})),
    )
    substrate: Substrate = "gpu"
    spec = LiveSpec(name, "gpu", url, (deployment,), profile=PROFILE, **fields)
    return live(spec, sheets(), SystemClock(), substrate, None, transport)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A `turnout emulate` in this event loop."""

    url: str
    backend: Backend
    server: EmulatedServer

    def misbehave(self, *rules: dict[str, Any], seed: int = 0) -> None:
        """Put a fault plan in force."""
        self.server.faults.set(read(json.dumps({"seed": seed, "rules": list(rules)}), "rules"))


@contextlib.asynccontextmanager
async def emulating(
    chip: str = "h100", model: str = MODEL, time_scale: float = 20.0, **fields: Any
) -> AsyncIterator[Upstream]:
    """A server on a free port, twenty times as fast as the silicon."""
    options = Options(
        choice=choose(sheets(), chip, model, None, None, None),
        context_tokens=sheets().model(model).context_tokens,
        names=fields.pop("names", (model,)),
        host="127.0.0.1",
        port=0,
        time_scale=time_scale,
        emulation=EmulationSpec(prefill_noise=0, decode_noise=0, **fields),
        faults=FaultsFile(),
        admin_token=None,
    )
    backend, server = build(options, sheets())
    await backend.start()
    try:
        async with listening(server) as url:
            yield Upstream(url, backend, server)
    finally:
        await backend.aclose()


def live_config(folder: Path, urls: dict[str, str], **options: Any) -> LoadedConfig:
    """A gateway's configuration over live backends, the first the cheapest; loaded from a file as an operator's is."""
    lines = ["version: 1", "extends: shipped", f"ledger: {{path: {folder / 'ledger.sqlite3'}, flush_interval_s: 0.05}}"]
    lines += ["cache: {type: off}", "models:", f"  {MODEL}: {{aliases: [small]}}", "backends:"]
    for place, (name, url) in enumerate(urls.items()):
        lines += [
            f"  - name: {name}",
            "    mode: live",
            "    kind: gpu",
            f"    url: {url}",
            "    profile: {ttft_ms: 20, tpot_ms: 5}",
            f"    deployments: [{{model: {MODEL}, upstream_model: {options.get('upstream_model', MODEL)},"
            f" capabilities: [n, tools, logprobs]}}]",
            f"    timeouts: {options.get('timeouts', '{}')}",
            *([f"    monitor: {options['monitor'].replace('URL', url)}"] if "monitor" in options else []),
            "    pricing: {type: tokens, source: test, confidence: vendor-stated,"
            f" usd_per_million_prompt: {1 + place}, usd_per_million_completion: {2 + place}}}",
        ]
    path = folder / "turnout.yaml"
    path.write_text("\n".join(lines) + "\n")
    return load(path)


def timeouts(**fields: float) -> LiveTimeouts:
    """Short ones."""
    return LiveTimeouts(**{"connect_s": 1, "first_byte_s": 5, "idle_s": 5, "whole_s": 5, **fields})


def pieces_of(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The same bytes, cut at other places."""
    edges = [0, *sorted(cuts), len(data)]
    return (data[start:end] for start, end in pairwise(edges))
