"""What commands that talk to the admin port share: its options, and what goes wrong as exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from app.cli.client import CannotReachError, RefusedError, ask
from app.cli.loading import CANNOT_REACH, CHECK_FAILED, header_text, url_option

F = TypeVar("F", bound=Callable[..., Any])

_token = click.option(
    "--admin-token", envvar="TURNOUT_ADMIN_TOKEN", callback=header_text, help="Bearer token of the admin port."
)


def admin_options(command: F) -> F:
    """`--admin-url` and `--admin-token`."""
    return url_option("--admin-url", "http://127.0.0.1:8081", "The admin port of a running gateway.")(_token(command))


def ask_admin(method: str, url: str, token: str | None, body: Mapping[str, Any] | None = None) -> Any:
    """One request to the admin port.

    Raises: RefusedError. Exits 3 when nobody answers.
    """
    try:
        return ask(method, url, body, {"authorization": f"Bearer {token}"} if token else {})
    except CannotReachError as error:
        print(f"cannot reach {error}", file=sys.stderr)
        sys.exit(CANNOT_REACH)


def answer_or_exit(method: str, url: str, token: str | None, body: Mapping[str, Any] | None = None) -> Any:
    """The same; a refusal is printed, exit 1."""
    try:
        return ask_admin(method, url, token, body)
    except RefusedError as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)
