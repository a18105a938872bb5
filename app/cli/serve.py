"""`turnout serve`: run a gateway."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from app.cli.loading import config_option, json_option, load_or_exit
from app.config.load import LoadedConfig, load
from app.server import run

PORT = click.IntRange(0, 65535)


@click.command()
@config_option
@click.option("--host", help="Address of the API (overrides server.host).")
@click.option("--port", type=PORT, help="Port of the API; 0 picks a free one and prints it.")
@click.option("--admin-port", type=PORT, help="Port of metrics and admin; 0 picks a free one and prints it.")
@json_option
def command(path: Path | None, host: str | None, port: int | None, admin_port: int | None, as_json: bool) -> None:
    """Run a gateway until SIGTERM; then drain it.

    --json prints one line with the addresses once it is ready.
    """
    given = {"host": host, "port": port, "admin_port": admin_port}
    changes = {name: value for name, value in given.items() if value is not None}

    def overridden(loaded: LoadedConfig) -> LoadedConfig:
        server = loaded.config.server.model_copy(update=changes)
        return replace(loaded, config=loaded.config.model_copy(update={"server": server}))

    loaded = overridden(load_or_exit(path))
    sys.exit(run(lambda: overridden(load(path)), loaded, as_json=as_json))
