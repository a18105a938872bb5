"""What commands share that replay traffic: options, a bar of progress, and what goes wrong as an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from app.cli.loading import CHECK_FAILED, INTERRUPTED, finite
from app.errors import ConfigError
from app.replay.formats import TraceError
from app.replay.runs import UnknownName
from backends.errors import BackendConfigError

F = TypeVar("F", bound=Callable[..., Any])

EMULATED = "emulated, not a hardware result"

limit_option = click.option("--limit", type=click.IntRange(1), help="Only the first requests of the trace.")
model_option = click.option("--model", help="Which model every request asks for, whatever the trace says.")
jobs_option = click.option(
    "--jobs", type=click.IntRange(1), default=lambda: os.cpu_count() or 1, show_default="all cores"
)


def seeds_option(says: str) -> Callable[[F], F]:
    """How many runs, and of what."""
    return click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help=says)


def load_option(says: str) -> Callable[[F], F]:
    """How much traffic."""
    return click.option(
        "--load",
        type=click.FloatRange(0.001, 10_000),
        default=1.0,
        show_default=True,
        callback=finite,
        help=says,
    )


def writable(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    """A file that can be written as far as can be told beforehand; anything else is a usage error."""
    if value is not None:
        if not value.parent.is_dir():
            raise click.BadParameter(
                f"'{value}' cannot be written: there is no folder '{value.parent}'", context, option
            )
        if not os.access(value if value.exists() else value.parent, os.W_OK):
            raise click.BadParameter(f"'{value}' cannot be written: permission denied", context, option)
    return value


@contextmanager
def progress(
    says: str, total: int, *, quiet: bool, requests: int = 0, played: Callable[[], int] | None = None
) -> Iterator[Callable[[], None]]:
    """A bar on stderr; what it gives is called for each step done.

    `played` tells, while steps are at it, how many of about so many `requests` have been played: it is asked when the
    bar is drawn, so that whoever plays need not stop for it.
    """
    steps = 0

    def look() -> dict[str, Any]:
        if played is None:
            return {"completed": steps, "steps": f"{steps}/{total}"}
        done = min(played(), requests) if steps < total else requests
        told = f"{steps}/{total}, {done:,} of {requests:,} requests"
        return {"completed": done, "total": requests, "steps": told}

    def step() -> None:
        nonlocal steps
        steps += 1

    columns = (TextColumn(says), BarColumn(), TextColumn("{task.fields[steps]}"), TimeElapsedColumn())
    with _Bar(look, *columns, disable=quiet, console=Console(stderr=True), refresh_per_second=4) as shown:
        shown.add_task("", **{"total": total, **look()})
        yield step


class _Bar(Progress):
    """Looks at what has been done each time it is drawn."""

    def __init__(self, look: Callable[[], dict[str, Any]], *columns: ProgressColumn, **options: Any) -> None:
        self._look = look
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.task_ids:
            self.update(task, **self._look())
        yield from super().get_renderables()


@contextmanager
def problems_exit() -> Iterator[None]:
    """Prints what is wrong with a configuration, a trace or a name, and exits 1; 130 after Ctrl-C."""
    try:
        yield
    except ConfigError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        sys.exit(CHECK_FAILED)
    except (TraceError, UnknownName, BackendConfigError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
