"""`python -m tests.benchmark [NAME ...]`: run and print; results also go to tests/benchmark/results/latest.json."""

from __future__ import annotations

import json
import platform
import sys
from importlib import import_module
from pathlib import Path

from app.build import described

NAMES = ("decision", "engine", "replay", "vidur", "startup", "gateway", "relay", "semantic")


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    results: dict[str, dict[str, float]] = {}
    about = {"python": platform.python_version(), "machine": platform.machine(), "turnout": described()}
    print(", ".join(f"{what} {value}" for what, value in about.items()), flush=True)
    for name in names or NAMES:
        results[name] = import_module(f"tests.benchmark.{name}").run()
        for key, value in results[name].items():
            print(f"{name:10} {key:36} {value:12.2f}", flush=True)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "latest.json").write_text(json.dumps({"about": about, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
