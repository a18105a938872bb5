"""`turnout check`: is this configuration one a gateway could run with?"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from app.cli.loading import CHECK_FAILED, config_option, json_option
from app.config.load import LoadedConfig, load
from app.errors import ConfigError


@click.command()
@config_option
@click.option("--live", is_flag=True, help="Ask every live backend too: is it there, are key and models right?")
@json_option
def command(path: Path | None, live: bool, as_json: bool) -> None:
    """Validate a configuration: every problem as file:line:column, exit 1 if there is one.

    With --live each service is pinged, at no cost: nothing is generated. One that does not answer as it should is a
    problem, a model that it does not list a warning.
    """
    try:
        loaded = load(path)
    except ConfigError as error:
        if as_json:
            print(json.dumps({"ok": False, "problems": list(error.problems)}))
        else:
            print(*error.problems, sep="\n", file=sys.stderr)
        sys.exit(CHECK_FAILED)
    # Without --live a check needs no HTTP stack.
    asking: Any = import_module("app.cli.live_check") if live else None
    checked = asking.check(loaded) if live else []
    ok = all(each.ok for each in checked)
    if as_json:
        found = {"live": asking.as_data(checked)} if live else {}
        print(json.dumps({"ok": ok, "config": loaded.hash, "warnings": list(loaded.warnings), **found}))
        sys.exit(0 if ok else CHECK_FAILED)
    for warning in loaded.warnings:
        print(f"{loaded.path}: warning: {warning}", file=sys.stderr)
    print(_summary(loaded))
    if checked:
        asking.show(checked, Console())
    elif live:
        print("there is no live backend in it")
    sys.exit(0 if ok else CHECK_FAILED)


def _summary(loaded: LoadedConfig) -> str:
    config = loaded.config
    substrates = sorted({backend.kind for backend in config.backends})
    return (
        f"{loaded.path}: ok ({len(config.backends)} backends on {', '.join(substrates)}; "
        f"{len(config.models)} models; policy {config.routing.default_policy}; hash {loaded.hash})"
    )
