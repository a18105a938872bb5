"""Official JavaScript clients (openai, @anthropic-ai/sdk, the AI SDK) against a real gateway process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gateways import serving

FOLDER = Path(__file__).parents[1] / "clients" / "js"
CHECKS = re.findall(r'^  "([a-z ]+)": async', (FOLDER / "suite.mjs").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What went wrong with each check; None = nothing."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip("node or tests/clients/js/node_modules is missing (make test installs the clients with npm)")
    with serving(tmp_path_factory.mktemp("gateway")) as gateway:
        command = [node, "suite.mjs", gateway.url, "llama-3.1-8b"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return {said["name"]: said["problem"] for said in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("check", CHECKS)
def test_check(problems: dict[str, str | None], check: str) -> None:
    assert check in problems
    assert problems[check] is None, problems[check]


def test_the_list_is_whole() -> None:
    assert len(CHECKS) >= 20
