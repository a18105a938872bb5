"""What a thousand requests of each kind of trace cost and keep under `cheapest-slo` and every baseline, to the digit.

Command: `python -m tests.simulation.golden` plays them and says what has changed; with `--write` it writes it down
(tests/simulation/golden/NAME.json), which a change of engines, prices or decisions needs: look at the difference first.

Real traces are not part of the repository, so these are made here, from a seed, in the same formats: conversations and
code as Azure's CSV has them, conversations of several turns as Mooncake's JSON lines. Figures are kept to nine digits:
the last bits of a logarithm are not the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.replay.baselines import baselines
from app.replay.runs import Replay, Run, play, trace_of
from app.replay.seeds import ORACLE, combined

FOLDER = Path(__file__).parent / "golden"
REQUESTS = 1000
POLICIES = ("cheapest-slo", *baselines(), ORACLE)
FIGURES = (
    "requests", "answered", "good", "attempts", "slo_attainment", "goodput_rps", "usd_per_1k_good", "usd_per_1m_tokens",
    "regret", "effective_usd", "bill_with_idle_usd", "ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s",
    "cached_tokens", "refused",
)  # fmt: skip
DIGITS = 9
BEGINNING = datetime(2023, 11, 16, 18, 0)  # noqa: DTZ001  # Azure's times name no zone


def conversation() -> Iterator[str]:
    """Azure's CSV: Poisson arrivals, 15 a second, prompts of about a thousand tokens, answers of about two hundred."""
    rng, at_us = random.Random("conversation"), 0.0
    yield "TIMESTAMP,ContextTokens,GeneratedTokens"
    for _ in range(REQUESTS):
        at_us += rng.expovariate(15.0) * 1e6
        yield _azure(at_us, min(8000, rng.lognormvariate(6.5, 1.0)), min(900, rng.lognormvariate(4.9, 0.8)))


def code() -> Iterator[str]:
    """Azure's CSV: bursts of some dozens a few seconds apart, long prompts and answers of a few dozen tokens."""
    rng, at_us, left = random.Random("code"), 0.0, 0
    yield "TIMESTAMP,ContextTokens,GeneratedTokens"
    for _ in range(REQUESTS):
        if not left:
            left, at_us = rng.randint(5, 40), at_us + rng.expovariate(0.2) * 1e6
        left -= 1
        at_us += rng.expovariate(30.0) * 1e6
        yield _azure(at_us, min(7500, rng.lognormvariate(7.4, 0.8)), min(500, rng.lognormvariate(3.0, 0.7)))


def mooncake() -> Iterator[str]:
    """Mooncake's JSON lines: ticks of 3 s; every other request goes on with a conversation by a few blocks."""
    rng, told, fresh = random.Random("mooncake"), list[list[int]](), 1
    for number in range(REQUESTS):
        blocks = [0]
        if told and rng.random() < 0.5:
            blocks = told.pop(rng.randrange(len(told)))
        more = rng.randint(1, 6)
        blocks = [*blocks, *range(fresh, fresh + more)]
        fresh += more
        if len(blocks) < 24:
            told.append(blocks)
        prompt = 512 * len(blocks) - rng.randrange(512)
        length = int(min(1500, rng.lognormvariate(5.4, 0.8))) + 1
        yield json.dumps(
            {"timestamp": number // 5 * 3000, "input_length": prompt, "output_length": length, "hash_ids": blocks}
        )


TRACES: dict[str, Callable[[], Iterator[str]]] = {"conversation": conversation, "code": code, "mooncake": mooncake}


def _azure(at_us: float, prompt: float, answer: float) -> str:
    moment = BEGINNING + timedelta(microseconds=int(at_us))
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}0,{int(prompt) + 1},{int(answer) + 1}"


def played(name: str, folder: Path) -> str:
    """The table of one trace, as its file has it; the trace is written into the folder."""
    path = folder / f"{name}.{'jsonl' if name == 'mooncake' else 'csv'}"
    path.write_text("\n".join(TRACES[name]()) + "\n")
    replay = Replay(path, None)
    rows = combined({policy: {0: play(replay, Run(policy, 0))} for policy in POLICIES})
    table = {
        "about": "emulated, not a hardware result; made by python -m tests.simulation.golden --write",
        "trace": trace_of(replay).hash,
        "seed": 0,
        "policies": {row["policy"]: {name: _rounded(row[name]) for name in FIGURES} for row in rows},
    }
    return json.dumps(table, indent=1) + "\n"


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare or write; 1 if anything has changed and is not written."""
    parser = argparse.ArgumentParser(description="The golden replays.")
    parser.add_argument("--write", action="store_true", help="write down what they come to now")
    options = parser.parse_args(arguments)
    changed = False
    for name in TRACES:
        file = FOLDER / f"{name}.json"
        before = json.loads(file.read_text())["policies"] if file.is_file() else {}
        with TemporaryDirectory() as folder:
            text = played(name, Path(folder))
        for policy, row in json.loads(text)["policies"].items():
            for figure, value in row.items():
                if (old := before.get(policy, {}).get(figure)) != value:
                    changed = True
                    print(f"{name} {policy} {figure}: {old} -> {value}")
        if options.write:
            file.write_text(text)
    return int(changed and not options.write)


if __name__ == "__main__":
    raise SystemExit(main())
