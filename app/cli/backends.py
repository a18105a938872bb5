"""`turnout backends`: the backends of a running gateway, taking one out of (or back into) the running, and warming it
up."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from app.cli.admin import admin_options, answer_or_exit
from app.cli.console import stdout
from app.cli.loading import json_option


@click.group()
def command() -> None:
    """List backends of a running gateway, drain one or put it back, warm one up."""


@command.command("list")
@admin_options
@json_option
def list_command(admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """Every backend with its state and load."""
    listed = answer_or_exit("GET", f"{admin_url}/admin/backends", admin_token)
    if as_json:
        print(json.dumps(listed))
    else:
        show(listed["backends"], stdout())


@command.command()
@click.argument("name")
@admin_options
@json_option
def drain(name: str, admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """Send it no new requests; what it serves goes on."""
    _set(name, "drain", admin_url, admin_token, as_json)


@command.command()
@click.argument("name")
@admin_options
@json_option
def undrain(name: str, admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """Send it requests again."""
    _set(name, "undrain", admin_url, admin_token, as_json)


@command.command()
@click.argument("name")
@admin_options
@json_option
def warm(name: str, admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """Have it warm up, if it is cold (`cold_start`), before requests need it."""
    _set(name, "warm", admin_url, admin_token, as_json)


def _set(name: str, what: str, admin_url: str, admin_token: str | None, as_json: bool) -> None:
    url = f"{admin_url}/admin/backends/{quote(name, safe='')}/{what}"
    backend = answer_or_exit("POST", url, admin_token, {})
    if as_json:
        print(json.dumps(backend))
    else:
        print(f"{name}: {_state(backend)}, {backend['in_flight']} in flight")


def show(backends: list[dict[str, Any]], console: Console) -> None:
    """Backends for people."""
    table = Table()
    for heading in ("backend", "substrate", "mode", "models", "state"):
        table.add_column(heading)
    for heading in ("in flight", "running", "waiting", "KV"):
        table.add_column(heading, justify="right")
    for backend in backends:
        table.add_row(
            backend["name"],
            backend["substrate"],
            backend["mode"],
            ", ".join(deployment["model"] for deployment in backend["deployments"]),
            _state(backend),
            str(backend["in_flight"]),
            str(backend["running"]),
            str(backend["waiting"]),
            f"{backend['kv_used_ratio']:.0%}",
        )
    console.print(table)


def _state(backend: dict[str, Any]) -> str:
    failing, monitor, gated = backend["failing"], backend["monitor"], backend.get("gated")
    parts = ["drained"] if backend["drained"] else []
    if monitor is not None and monitor["ping"]["ok"] is False:
        parts.append("does not answer pings")
    if (warmth := backend.get("warmth")) is not None:
        left = f" (warm in {warmth['warm_in_s']:.0f} s)" if warmth["state"] == "warming" else ""
        parts.append(f"{warmth['state']}{left}")
    if gated is not None:
        parts.append(f"gets nothing ({gated['reason']})")
    if failing is not None:
        parts.append(f"failing ({failing['failures']}: {failing['last_error']})")
    return ", ".join(parts) or "ok"
