"""Official JavaScript clients, run by node in a process of their own."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "clients" / "js"
LIMIT_S = 120


def node() -> str:
    """The interpreter; a test without it, or without the clients, is skipped."""
    found = shutil.which("node")
    if found is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip("node or tests/clients/js/node_modules is missing (make test installs the clients with npm)")
    return found


def checks(script: str) -> list[str]:
    """The names of a script's checks."""
    return re.findall(r'^  "([a-z ]+)": (?:async )?\(', (FOLDER / script).read_text(), re.MULTILINE)


async def problems(script: str, *arguments: str) -> dict[str, str | None]:
    """What went wrong with each check; None = nothing."""
    process = await asyncio.create_subprocess_exec(
        node(), script, *arguments, cwd=FOLDER, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, errors.decode()
    return {said["name"]: said["problem"] for said in map(json.loads, out.decode().splitlines())}
