"""What commands share: options, exit codes, and loading a configuration (problems to stderr, a line each, exit 1)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from app.config.load import LoadedConfig, load
from app.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

CHECK_FAILED = 1
CANNOT_REACH = 3
INTERRUPTED = 130


def finite(context: click.Context, option: click.Parameter, value: float) -> float:
    """A number that is one; `nan` passes every range."""
    if not isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number", context, option)
    return value


def gateway_url(context: click.Context, option: click.Parameter, value: str) -> str:
    """An http(s) address without a trailing slash; anything else is a usage error."""
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise click.BadParameter(f"'{value}' is not like http://127.0.0.1:8080", context, option)
    return value.rstrip("/")


def header_text(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Text that can be sent as a header; anything else is a usage error."""
    if value is not None and not (value.isascii() and value.isprintable()):
        raise click.BadParameter("only printable ASCII can be sent", context, option)
    return value


def url_option(name: str, default: str, says: str) -> Callable[[F], F]:
    """An option for the address of a running gateway."""
    return click.option(name, default=default, show_default=True, callback=gateway_url, help=says)


def refuse_beside(given: str, others: Collection[str], why: str) -> None:
    """A usage error where an option was given that would be ignored; `others` are the names of their parameters."""
    context = click.get_current_context()
    for option in context.command.params:
        named = option.name is not None and option.name in others
        if named and context.get_parameter_source(str(option.name)) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{option.opts[-1]} does not go with {given}: {why}")


policy_option = click.option("--policy", callback=header_text, help="Instead of the configured one.")
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
