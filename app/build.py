"""What kind of build this is."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from app import __version__


def compiled() -> bool:
    """Whether the hot modules are extensions (`TURNOUT_COMPILE=1` when the wheel was built), or sources."""
    return any((Path(__file__).parent / "routing" / f"predictor{suffix}").is_file() for suffix in EXTENSION_SUFFIXES)


def described() -> str:
    """The version, and whether it is a compiled build."""
    return f"{__version__} (compiled)" if compiled() else __version__
