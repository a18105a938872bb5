"""`turnout reload`: have a running gateway take over its configuration file as it is now."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from app.cli.admin import admin_options, ask_admin
from app.cli.client import RefusedError
from app.cli.loading import CHECK_FAILED, json_option
from app.config import changes


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@admin_options
@json_option
def command(dry_run: bool, admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """Reload the configuration of a running gateway; on any problem it keeps the old one, exit 1."""
    try:
        done = ask_admin("POST", f"{admin_url}/admin/config/reload?dry_run={int(dry_run)}", admin_token, {})
    except RefusedError as error:
        if as_json:
            print(json.dumps({"ok": False, "problems": error.problems or [str(error)]}))
        else:
            print(*(error.problems or [str(error)]), sep="\n", file=sys.stderr)
        sys.exit(CHECK_FAILED)
    if as_json:
        print(json.dumps({"ok": True, **done}))
        return
    for warning in done["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(*told(done), sep="\n")


def told(done: dict[str, Any]) -> list[str]:
    """What changes, for people: a line for each kind of thing."""
    if not done["changed"]:
        return [f"nothing differs (config {done['config']})"]
    return [
        f"{'would change' if done['dry_run'] else 'changed'}: config {done['from']} -> {done['config']}",
        *changes.lines(done),
    ]
