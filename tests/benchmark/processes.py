"""What eight gateway processes lose against one, over the same emulated servers with the same arrivals: the share of
requests that kept every promise. Command: python -m tests.benchmark processes (six minutes; not among those run when
none is named).

Everything is a process of its own: three `turnout emulate`, a Redis or Valkey, one or eight `turnout serve`; the load
comes from here, open loop, each request to the next gateway in turn. Engines take 8 sequences each, so that a few
requests a second fill them and the CPU has little to do: what is measured is what gateways do not know of each other.
Emulated, not a hardware result.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from app.cli.bench import Run
from app.cli.client import Reply, connect
from app.cli.report import Promise
from app.replay.formats import Arrival
from tests.gateways import gateway_processes
from tests.servers import redis_server

ROOT = Path(__file__).resolve().parents[2]
MODEL = "llama-3.3-70b"
CHIPS = {"h100": ("--chips", "2"), "tpu_v6e": (), "mi300x": ()}
"""The cheapest first; about 20, 23 and 27 ms a token."""

SEQUENCES = 8
RATE, RUN_S, SEEDS = 11.0, 20.0, 5
"""So many requests a second need the second of the three all the time, and the third now and then."""

CONFIG = """
version: 1
extends: shipped
models: {{{model}: {{}}}}
aliases: {{}}
cache: {{type: "off"}}
ledger: {{path: ledger.sqlite3}}
sharing: {sharing}
backends:
"""
BACKEND = """
  - name: {name}
    mode: live
    kind: gpu
    url: {url}
    profile: {{ttft_ms: 60, tpot_ms: 20, tpot_ms_per_sequence: 0.2, max_sequences: {sequences}}}
    deployments: [{{model: {model}, context_tokens: 8192}}]
    pricing: {{type: tokens, usd_per_million_prompt: {price}, usd_per_million_completion: {price}, source: t,
      confidence: assumed}}
"""


class Measured(NamedTuple):
    """What came of a run: percent of the requests that kept every promise (of all, and of those after the first
    quarter), how many failed, and percent of a processor that gateways took."""

    attained_pct: float
    later_attained_pct: float
    failed: int
    gateway_cpu_pct: float


def arrivals(rate: float, run_s: float, seed: int) -> list[Arrival]:
    """Poisson, chat-like."""
    rng, at_s, made = random.Random(f"processes:{seed}"), 0.0, list[Arrival]()
    while (at_s := at_s + rng.expovariate(rate)) < run_s:
        prompt, answer = rng.lognormvariate(5.5, 0.8), rng.lognormvariate(3.9, 0.6)
        made.append(Arrival(at_s, int(min(3000, prompt)) + 1, int(min(200, answer)) + 1))
    return made


@contextlib.contextmanager
def emulators(folder: Path, seed: int) -> Iterator[dict[str, str]]:
    """Fresh emulated servers; url by name. Killed at the end."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name, chips in CHIPS.items():
            errors = stack.enter_context((folder / f"{name}.stderr").open("w"))
            command = [sys.executable, "-m", "app", "emulate", name, *chips, "--model", MODEL, "--port", "0", "--json"]
            process = subprocess.Popen(
                [*command, "--max-num-seqs", str(SEQUENCES), "--seed", str(seed)],
                stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
            started[name] = process
        urls = {}
        for name, process in started.items():
            assert process.stdout is not None
            line = process.stdout.readline()
            process.stdout.close()
            assert line, (folder / f"{name}.stderr").read_text()
            urls[name] = json.loads(line)["url"]
        yield urls


def configuration(urls: dict[str, str], redis: str | None) -> str:
    """A gateway's, over the emulated servers."""
    sharing = '{type: "off"}' if redis is None else f'{{type: redis, url: "{redis}"}}'
    backends = "".join(
        BACKEND.format(name=name, url=url, model=MODEL, sequences=SEQUENCES, price=1 + place)
        for place, (name, url) in enumerate(urls.items())
    )
    return CONFIG.format(model=MODEL, sharing=sharing) + backends


async def drive(urls: Sequence[str], sent: Sequence[Arrival]) -> list[Reply]:
    """Every request at its time, each to the next gateway."""
    run = Run("", {"content-type": "application/json"}, True, 1.0, MODEL, False, 1)
    bodies = [run.body(number, arrival) for number, arrival in enumerate(sent)]
    began_s = time.perf_counter() + 0.1
    async with connect(60.0) as client, asyncio.TaskGroup() as group:
        tasks = []
        for number, arrival in enumerate(sent):
            await asyncio.sleep(max(0.0, began_s + arrival.at_s - time.perf_counter()))
            url = f"{urls[number % len(urls)]}/v1/chat/completions"
            tasks.append(group.create_task(client.measure(url, bodies[number], run.headers)))
    return [task.result() for task in tasks]


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(processes: int, sent: Sequence[Arrival], redis: str | None, seed: int = 0) -> Measured:
    """One run, from cold gateways and cold engines."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with (
            emulators(folder, seed) as urls,
            gateway_processes(folder, configuration(urls, redis), processes) as started,
        ):
            before_s, began_s = sum(cpu_s(process.pid) for _, _, process in started), time.perf_counter()
            replies = asyncio.run(drive([url for url, _, _ in started], sent))
            used_s = sum(cpu_s(process.pid) for _, _, process in started) - before_s
            took_s = time.perf_counter() - began_s
    promise = Promise()
    kept = [promise.kept(*pair) for pair in zip(sent, replies, strict=True)]
    later = kept[len(kept) // 4 :]
    failed = sum(reply.error not in (None, "request_shed") for reply in replies)
    return Measured(100 * sum(kept) / len(kept), 100 * sum(later) / len(later), failed, 100 * used_s / took_s)


def run() -> dict[str, float]:
    """Percent of promises kept over all seeds: by one process, by eight that share and, on one seed, by eight that do
    not; and how many points of it the eight lose."""
    found: dict[str, list[Measured]] = {"one": [], "eight": [], "alone": []}
    with redis_server("redis" if shutil.which("redis-server") else "valkey") as server:
        for seed in range(SEEDS):
            sent = arrivals(RATE, RUN_S, seed)
            found["one"].append(measure(1, sent, None, seed))
            found["eight"].append(measure(8, sent, server.url, seed))
            if not seed:
                found["alone"].append(measure(8, sent, None, seed))
            print(f"processes: seed {seed}", {name: runs[-1] for name, runs in found.items()}, flush=True)
    results: dict[str, float] = {}
    for name, runs in found.items():
        for figure in Measured._fields:
            results[f"{name}_{figure}"] = sum(getattr(each, figure) for each in runs) / len(runs)
    return results | {"lost_pct": results["one_attained_pct"] - results["eight_attained_pct"]}
