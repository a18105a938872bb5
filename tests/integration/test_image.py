"""The Dockerfile's first stage, step by step, in a folder instead of a container: does it make an installed gateway?"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP = re.compile(r"^(COPY|RUN|WORKDIR)\s+(.*)$")

pytestmark = pytest.mark.timeout(300)


def steps() -> list[tuple[str, str]]:
    """(instruction, arguments) of the first stage; COPY, RUN and WORKDIR."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    stage = text.split("\nFROM ")[1]
    return [(found[1], found[2]) for line in stage.splitlines() if (found := STEP.match(line))]


def let_in() -> list[str]:
    """What .dockerignore lets a build see."""
    return [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]


def copied(arguments: str, where: Path) -> None:
    *sources, target = arguments.split()
    for source in sources:
        assert any(source == each or source.startswith(f"{each}/") for each in let_in()), f"{source} is ignored"
        into = where / target / ("" if target != "./" and (ROOT / source).is_dir() else Path(source).name)
        if target != "./" and (ROOT / source).is_file():
            into = where / target
        into.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / source, into)


def test_it_comes_to_an_installed_gateway(tmp_path: Path) -> None:
    where = tmp_path
    for instruction, arguments in steps():
        if instruction == "WORKDIR":
            where = tmp_path / arguments.lstrip("/")
            where.mkdir()
        elif instruction == "COPY":
            copied(arguments, where)
        else:
            script = arguments.replace("/opt/", f"{tmp_path}/opt/")
            (tmp_path / "opt").mkdir(exist_ok=True)
            ran = subprocess.run(
                ["sh", "-c", script], cwd=where, capture_output=True, text=True, check=False,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "COMPILE": "0"},
            )  # fmt: skip
            assert ran.returncode == 0, f"{script}\n{ran.stdout}{ran.stderr}"
    turnout = tmp_path / "opt" / "turnout" / "bin" / "turnout"
    for command in (["--version"], ["check"]):
        ran = subprocess.run([turnout, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
