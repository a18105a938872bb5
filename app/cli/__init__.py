"""The command line. Exit codes: 0 ok, 1 check failed, 2 usage, 3 cannot reach. Every command takes --json."""

from __future__ import annotations

from importlib import import_module

import click

from app.build import described

COMMANDS = (
    "serve",
    "check",
    "schema",
    "explain",
    "diff",
    "replay",
    "bench",
    "emulate",
    "calibrate",
    "local",
    "reload",
    "backends",
    "cache",
    "status",
)


class _Commands(click.Group):
    """A command's module is imported when the command is run, so that `turnout check` needs no HTTP stack."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"app.cli.{cmd_name}").command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(described(), prog_name="turnout")
def main() -> None:
    """Turnout guides each prompt to the silicon that answers it at the lowest cost inside its latency promise."""
