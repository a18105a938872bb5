"""`turnout check`: is this configuration one a gateway could run with?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from app.cli.loading import CHECK_FAILED, config_option, json_option
from app.config.load import LoadedConfig, load
from app.errors import ConfigError


@click.command()
@config_option
@json_option
def command(path: Path | None, as_json: bool) -> None:
    """Validate a configuration: every problem as file:line:column, exit 1 if there is one."""
    try:
        loaded = load(path)
    except ConfigError as error:
        if as_json:
            print(json.dumps({"ok": False, "problems": list(error.problems)}))
        else:
            print(*error.problems, sep="\n", file=sys.stderr)
        sys.exit(CHECK_FAILED)
    if as_json:
        print(json.dumps({"ok": True, "config": loaded.hash, "warnings": list(loaded.warnings)}))
        return
    for warning in loaded.warnings:
        print(f"{loaded.path}: warning: {warning}", file=sys.stderr)
    print(_summary(loaded))


def _summary(loaded: LoadedConfig) -> str:
    config = loaded.config
    substrates = sorted({backend.kind for backend in config.backends})
    return (
        f"{loaded.path}: ok ({len(config.backends)} backends on {', '.join(substrates)}; "
        f"{len(config.models)} models; policy {config.routing.default_policy}; hash {loaded.hash})"
    )
