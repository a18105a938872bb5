"""The shipped gateway under conversations that arrive as a trace says keeps its promises, as a process and live."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from tests.gateways import serving

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 60
KEPT = re.compile(
    r'^turnout_slo_requests_total\{model="llama-3\.3-70b",objective="(\w+)",result="(\w+)"\} (\S+)$', re.M
)


def conversations(path: Path) -> Path:
    """As Azure's CSV has them, from a seed: one a second, prompts of about 1,000 tokens, answers of about 150."""
    rng, at = random.Random(7), datetime(2023, 11, 16, 18, 0)  # noqa: DTZ001  # Azure's times name no zone
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for _ in range(2 * REQUESTS):
        at += timedelta(seconds=rng.expovariate(1.0))
        prompt, answer = min(6000, rng.lognormvariate(6.5, 1.0)), min(300, 20 + rng.lognormvariate(4.7, 0.6))
        lines.append(f"{at:%Y-%m-%d %H:%M:%S.%f}0,{int(prompt) + 1},{int(answer)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_sixty_conversations_keep_what_was_promised(tmp_path: Path) -> None:
    """Judged by the gateway's own count; the client's figures, who shares the machine, are held against nothing.

    The worst of sixty took 0.4 of the TTFT and 0.8 of the pace that it was promised, also with the gateway, the client
    and two busy loops on one core. At 6 a second and more this is no test any more: one in sixty may be lost to a risk
    that the decision takes knowingly.
    """
    trace = conversations(tmp_path / "trace.csv")
    with serving(tmp_path, TURNOUT_LEDGER=str(tmp_path / "ledger.sqlite3")) as at:
        asked = ["--trace", str(trace), "--limit", str(REQUESTS), "--speedup", "3", "--url", at.url, "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "app", "bench", *asked],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        exported = httpx.get(f"{at.admin_url}/metrics").text
    told = json.loads(done.stdout)
    assert (told["offered"], told["answered"], told["errors"]) == (REQUESTS, REQUESTS, {})
    assert sum(row["requests"] for row in told["substrates"]) == REQUESTS
    counts = {(objective, result): float(count) for objective, result, count in KEPT.findall(exported)}
    for objective in ("ttft", "tpot"):
        good, all_of_them = counts[objective, "good"], sum(n for (each, _), n in counts.items() if each == objective)
        assert all_of_them == REQUESTS
        assert good >= 0.99 * all_of_them, counts
