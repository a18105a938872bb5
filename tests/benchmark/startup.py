"""From `turnout serve` to ready, on the shipped configuration. Command: python -m tests.benchmark startup."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.gateways import serving


def run() -> dict[str, float]:
    """The best and worst of five, in seconds; the first may still be writing bytecode."""
    taken = []
    for _ in range(5):
        with TemporaryDirectory() as folder:
            began_s = time.perf_counter()
            with serving(Path(folder)) as at:
                assert httpx.get(f"{at.url}/readyz").status_code == 200
                taken.append(time.perf_counter() - began_s)
    return {"start_to_ready_best_s": min(taken), "start_to_ready_worst_s": max(taken)}
