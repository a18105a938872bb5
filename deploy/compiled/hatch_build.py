"""Wheels whose hot modules are C extensions: `TURNOUT_COMPILE=1 pip wheel .`; without that this hook does nothing.

mypyc (part of mypy) compiles the sources as they are; what they do stays the same to the digit, which a test asks
(`tests/integration/test_compiled.py`). Everything happens in a copy: an extension beside an edited source would be
imported in its stead, and nobody would notice. Needs a C compiler and Python's headers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "app/dispatch/admission.py",
    "app/dispatch/budgets.py",
    "app/dispatch/commands.py",
    "app/dispatch/flight.py",
    "app/dispatch/machine.py",
    "app/dispatch/refusals.py",
    "app/dispatch/terms.py",
    "app/fleet/caps.py",
    "app/fleet/fleet.py",
    "app/fleet/health.py",
    "app/fleet/receipts.py",
    "app/fleet/troubles.py",
    "app/metering/cells.py",
    "app/metering/cost.py",
    "app/metering/meter.py",
    "app/metering/types.py",
    "app/replay/accounts.py",
    "app/replay/books.py",
    "app/replay/faults.py",
    "app/replay/journal.py",
    "app/replay/load.py",
    "app/replay/records.py",
    "app/replay/ride.py",
    "app/replay/simulation.py",
    "app/replay/stage.py",
    "app/routing/**/*.py",
    "backends/emulator/*.py",
)
"""What a decision, a replay and an emulated step spend their time in. Not what waits for others: coroutines gain
nothing, and of those of `app/dispatch` mypyc makes modules that fault when they are imported."""

AS_THEY_ARE = {
    "app/routing/plugins.py",  # protocols, which others implement
    "backends/emulator/backend.py",  # coroutines
    "backends/emulator/build.py",
    "backends/emulator/text.py",
}


class Compiled(BuildHookInterface[Any]):
    """Adds the extensions beside their sources, if `TURNOUT_COMPILE` is 1."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """For an isolated build: the compiler, and what the sources import, whose types it wants to know."""
        if not self._wanted:
            return []
        return ["mypy>=1.13", "setuptools>=75", "types-pyyaml>=6.0", *self.metadata.core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have the wheel take the extensions in. Raises: SystemExit, with the reason, if that fails."""
        if version != "standard" or not self._wanted:
            return
        self._copy = Path(mkdtemp(prefix="turnout-compiled-"))
        for made in compiled(Path(self.root), self._copy):
            build_data["force_include"][str(made)] = str(made.relative_to(self._copy))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The copy is needed until the wheel is written."""
        if hasattr(self, "_copy"):
            shutil.rmtree(self._copy)

    @property
    def _wanted(self) -> bool:
        return os.environ.get("TURNOUT_COMPILE") == "1"


def modules(root: Path) -> list[str]:
    """The sources to be compiled, relative to the root."""
    found = {path.relative_to(root).as_posix() for pattern in COMPILED for path in root.glob(pattern)}
    return sorted(each for each in found - AS_THEY_ARE if not each.endswith("__init__.py"))


def compiled(root: Path, copy: Path) -> list[Path]:
    """Compile in a copy of the sources; the extensions made. Raises: SystemExit."""
    if shutil.which(os.environ.get("CC", "cc")) is None:
        raise SystemExit("TURNOUT_COMPILE=1 needs a C compiler: none is found (as $CC or cc)")
    for package in ("app", "backends"):
        shutil.copytree(root / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", copy)
    script = Path(__file__).with_name("extensions.py")
    ran = subprocess.run(
        [sys.executable, str(script), *modules(root)], cwd=copy, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise SystemExit(f"TURNOUT_COMPILE=1: compiling failed\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return [path for path in copy.rglob("*.so") if "build" not in path.relative_to(copy).parts]
