"""Where tables are printed: as wide as the terminal, or wide enough for a file."""

from __future__ import annotations

import sys

from rich.console import Console

FILE_WIDTH = 160


def stdout() -> Console:
    """A console on standard output; colours only on a terminal, never with NO_COLOR."""
    return Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
