"""`turnout cache`: what the response cache of a running gateway holds, and emptying it."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.cli.admin import admin_options, answer_or_exit
from app.cli.console import stdout
from app.cli.loading import json_option


@click.group()
def command() -> None:
    """See what the response cache of a running gateway holds, empty it, forget one answer."""


@command.command()
@admin_options
@json_option
def stats(admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """What each tier holds, and how look-ups went since the start."""
    _tell(answer_or_exit("GET", f"{admin_url}/admin/cache", admin_token), as_json)


@command.command()
@admin_options
@json_option
def flush(admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """Forget every answer, in memory and in Redis; other gateways on that Redis follow within a second or so."""
    _tell(answer_or_exit("DELETE", f"{admin_url}/admin/cache", admin_token), as_json)


@command.command()
@click.argument("entry")
@admin_options
@json_option
def forget(entry: str, admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """Forget one answer, by the `cache_entry` that x-turnout-debug shows."""
    done = answer_or_exit("DELETE", f"{admin_url}/admin/cache/{entry}", admin_token)
    print(json.dumps(done) if as_json else f"{entry} is forgotten")


def _tell(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(told))
    else:
        show(told, stdout())


def show(told: dict[str, Any], console: Console) -> None:
    """Tiers and look-ups, for people."""
    table = Table("tier", "what", "how much", box=None, pad_edge=False)
    for tier, facts in told.items():
        for name, value in ({"": "none"} if facts is None else facts).items():
            table.add_row(tier, name.replace("_", " "), f"{value:,}" if type(value) is int else str(value))
    console.print(table)
