"""`make results`: every policy on every trace there is, at several loads and seeds, and the capacity of the fleet.

A cell is one run (trace, limit, load, policy, seed) on one configuration and one state of the code. It is stored as
JSON under tests/benchmark/results/cells as soon as it is known, by a name made of all that, so that an interrupted
evaluation goes on where it stopped. The tables go to tests/benchmark/results/evaluation.json. Emulated throughout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from app.replay.runs import Replay, Run, capacity_of, config_of, play, policies_of, trace_of
from app.replay.seeds import ORACLE, combined

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
LIMITS = {
    "AzureLLMInferenceTrace_conv_2023.csv.gz": 400,
    "AzureLLMInferenceTrace_code_2023.csv.gz": 2000,
    "mooncake_conversation_trace.jsonl.gz": 1500,
}
"""Requests taken of each trace, before they are multiplied by the load."""

LOADS, SEEDS = (0.5, 0.7, 0.85), 10
CODE = ("app/config", "app/dispatch", "app/fleet", "app/metering", "app/replay", "app/routing", "backends", "config")
"""What a result rests on: neither the wire nor the command line takes part in a replay."""


class Cell(NamedTuple):
    """One run."""

    trace: Path
    limit: int | None
    load: float
    policy: str
    seed: int

    @property
    def replay(self) -> Replay:
        return Replay(self.trace, None, load=self.load, limit=self.limit)


def main(arguments: Sequence[str] | None = None) -> None:
    """Play what is missing, then print and store the tables."""
    parser = argparse.ArgumentParser(description="Evaluate every policy on every trace; resumable.")
    parser.add_argument("--traces", nargs="+", default=list(LIMITS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS, help="as shares of the fleet's capacity")
    parser.add_argument("--policies", nargs="+")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    folder = Path(os.environ.get("TURNOUT_DATA", ROOT.parent / "shared" / "data")) / "traces"
    traces = [folder / name for name in options.traces if (folder / name).is_file()]
    if not traces:
        print(f"no traces in {folder.name}: nothing to evaluate")
        return
    policies = options.policies or [*policies_of(config_of(None)), ORACLE]
    capacities = [_capacity(trace, LIMITS[trace.name]) for trace in traces]
    cells = [
        Cell(trace, LIMITS[trace.name], round(share * found["capacity"]["load"], 4), policy, seed)
        for trace, found in zip(traces, capacities, strict=True)
        for share in options.loads
        for policy in policies
        for seed in range(options.seeds)
    ]
    tables = list(_tables(_played(cells, options.jobs)))
    RESULTS.mkdir(exist_ok=True)
    summary = {"config": config_of(None).hash, "code": code_hash(), "tables": tables, "capacity": capacities}
    (RESULTS / "evaluation.json").write_text(json.dumps(summary, indent=1) + "\n")
    for table in tables:
        print(f"\n{table['trace']} load {table['load']:g} (emulated, not a hardware result)")
        for row in table["policies"]:
            print(f"  {row['policy']:16} {_text(row)}")


def code_hash() -> str:
    """Of every source and configuration file that a result rests on."""
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _played(cells: Sequence[Cell], jobs: int) -> dict[Cell, dict[str, Any]]:
    """Every cell's summary, from its file or played now."""
    code = code_hash()
    files = {cell: _file(cell, code) for cell in cells}
    found = {cell: json.loads(file.read_text())["run"] for cell, file in files.items() if file.is_file()}
    left = [cell for cell in cells if cell not in found]
    print(f"{len(found)} of {len(cells)} runs are there", flush=True)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        asked = {pool.submit(play, cell.replay, Run(cell.policy, cell.seed)): cell for cell in left}
        for number, finished in enumerate(as_completed(asked), 1):
            cell = asked[finished]
            found[cell] = finished.result()
            _store(files[cell], {**_about(cell), "code": code, "run": found[cell]})
            print(f"{number}/{len(left)} {cell.trace.name} x{cell.load:g} {cell.policy} seed {cell.seed}", flush=True)
    return found


def _tables(found: dict[Cell, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[Path, float], dict[str, dict[int, dict[str, Any]]]] = {}
    for cell in sorted(found, key=lambda cell: (cell.trace, cell.load)):
        groups.setdefault((cell.trace, cell.load), {}).setdefault(cell.policy, {})[cell.seed] = found[cell]
    for (trace, load), runs in groups.items():
        ordered = {policy: dict(sorted(by_seed.items())) for policy, by_seed in runs.items()}
        yield {"trace": trace.name, "load": load, "policies": combined(ordered)}


def _capacity(trace: Path, limit: int | None) -> dict[str, Any]:
    replay = Replay(trace, None, limit=limit)
    about = {"trace": trace.name, "hash": trace_of(replay).hash, "limit": limit, "code": code_hash()}
    file = RESULTS / "cells" / f"capacity-{_digest(about)}.json"
    if not file.is_file():
        _store(file, {**about, "capacity": capacity_of(replay, 0, lambda tried: print(f"  {tried}", flush=True))})
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def _about(cell: Cell) -> dict[str, Any]:
    return {
        "trace": cell.trace.name,
        "hash": trace_of(Replay(cell.trace, None, limit=cell.limit)).hash,
        "limit": cell.limit,
        "load": cell.load,
        "policy": cell.policy,
        "seed": cell.seed,
        "config": config_of(None).hash,
    }


def _file(cell: Cell, code: str) -> Path:
    return RESULTS / "cells" / f"{cell.policy}-{_digest({**_about(cell), 'code': code})}.json"


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _store(file: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".part")
    beside.write_text(json.dumps(content))
    beside.replace(file)


def _text(row: dict[str, Any]) -> str:
    parts = []
    for name, scale, form in (("usd_per_1k_good", 1, ".4f"), ("slo_attainment", 100, ".2f"), ("regret", 100, ".1f")):
        value, interval = row[name], row["ci95"][name]
        half = "" if interval is None else f" ±{(interval[1] - interval[0]) / 2 * scale:{form}}"
        parts.append(f"{name} {'-' if value is None else format(value * scale, form)}{half}")
    return "   ".join(parts)


if __name__ == "__main__":
    main()
