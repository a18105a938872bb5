"""`turnout status`: how a running gateway is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from app.cli.admin import admin_options, answer_or_exit
from app.cli.loading import json_option


@click.command()
@admin_options
@json_option
def command(admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """Whether it is ready, which configuration it runs, how its last reload went, what its backends do."""
    status = answer_or_exit("GET", f"{admin_url}/admin/status", admin_token)
    print(json.dumps(status) if as_json else told(status))


def told(status: dict[str, Any]) -> str:
    """A status for people."""
    reload, backends = status["reload"], status["backends"]
    when = datetime.fromtimestamp(reload["last_success_epoch_s"], UTC).isoformat(timespec="seconds")
    state = "ready" if status["ready"] else f"not ready ({status['reason']})"
    said = "" if reload["successful"] else "; the last reload was REFUSED: the files hold another configuration"
    return "\n".join(
        (
            f"Turnout {status['version']}: {state}",
            f"  config    {status['config']} ({status['path']}), taken over at {when}{said}",
            f"  models    {', '.join(status['models'])}",
            f"  backends  {backends['total']}, of which drained: {_named(backends['drained'])}, "
            f"failing: {_named(backends['failing'])}{_chilly(backends)}",
            f"  in flight {status['in_flight']}",
        )
    )


def _chilly(backends: dict[str, Any]) -> str:
    """Those that are not warm, if any can be cold."""
    return "".join(f", {what}: {', '.join(backends[what])}" for what in ("cold", "warming") if backends.get(what))


def _named(names: list[str]) -> str:
    return ", ".join(names) or "none"
