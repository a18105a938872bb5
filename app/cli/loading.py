"""Loading a configuration on the command line: problems to stderr, a line each, exit 1."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from app.config.load import LoadedConfig, load
from app.errors import ConfigError

CHECK_FAILED = 1
CANNOT_REACH = 3

config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file; the shipped emulated fleet if absent.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def load_or_exit(path: Path | None) -> LoadedConfig:
    """The configuration; prints every problem and exits 1 if there is one."""
    try:
        return load(path)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        sys.exit(CHECK_FAILED)
