"""`turnout schema`: the JSON Schema of turnout.yaml, for editors."""

from __future__ import annotations

import json

import click

from app.cli.loading import json_option
from app.config.load import schema


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Print the JSON Schema of the configuration (--json: on one line)."""
    print(json.dumps(schema(), indent=None if as_json else 2))
