"""The compiled build decides, emulates and bills to the digit as the sources do."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from shutil import which

import httpx
import pytest

from app.replay.runs import Replay, Run, play
from tests.gateways import serving
from tests.simulation.golden import TRACES

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-compiled" / "bin" / "python"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def compiled() -> Path:
    """The Python of `make compiled`, which has a minute or two of work if the sources have changed since."""
    if which("cc") is None:
        pytest.skip("no C compiler")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        pytest.skip("no headers of this Python")
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not run in the checkout's .venv, which it is built from")
    ran = subprocess.run(["deploy/bootstrap/compiled.sh"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return PYTHON


def run(python: Path, *arguments: str) -> str:
    ran = subprocess.run([python, "-P", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_it_says_so_and_leaves_nothing_among_the_sources(compiled: Path) -> None:
    told = run(
        compiled,
        "-c",
        "import app.routing.predictor as a, backends.emulator.engine as b; print(a.__file__, b.__file__)",
    )
    assert [Path(each).suffix for each in told.split()] == [".so", ".so"]
    assert "(compiled)" in run(compiled, "-m", "app", "--version")
    assert "(compiled)" not in run(Path(sys.executable), "-m", "app", "--version")
    assert not [path for folder in ("app", "backends") for path in (ROOT / folder).rglob("*.so")]


def test_the_golden_replays_come_out_the_same(compiled: Path) -> None:
    assert run(compiled, "-m", "tests.simulation.golden") == ""


@pytest.mark.parametrize("name", TRACES)
def test_it_writes_the_same_decisions_down(compiled: Path, tmp_path: Path, name: str) -> None:
    trace = tmp_path / f"{name}.{'jsonl' if name == 'mooncake' else 'csv'}"
    trace.write_text("\n".join(TRACES[name]()) + "\n")
    own, other = tmp_path / "own", tmp_path / "other"
    play(Replay(trace, None), Run("cheapest-slo", 1, own))
    code = (
        "from pathlib import Path; from app.replay.runs import *; "
        f"play(Replay(Path({str(trace)!r}), None), Run('cheapest-slo', 1, Path({str(other)!r})))"
    )
    run(compiled, "-c", code)
    assert own.stat().st_size > 100_000
    assert own.read_bytes() == other.read_bytes()


def test_it_serves(compiled: Path, tmp_path: Path) -> None:
    body = {"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    with serving(tmp_path, python=str(compiled), PYTHONPATH="") as at:
        answer = httpx.post(f"{at.url}/v1/chat/completions", json=body, timeout=30)
        assert answer.json()["usage"]["completion_tokens"] == 3
        assert httpx.get(f"{at.admin_url}/admin/status").json()["compiled"] is True
