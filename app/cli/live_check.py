"""`turnout check --live`: each configured service is asked, once, and what it said is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from app.config.load import LoadedConfig, to_spec
from app.config.models import LiveBackendConfig
from app.fleet.engine_gauges import UnreadableMetrics, parse
from backends.clock import SystemClock
from backends.errors import BackendError
from backends.types import LiveSpec
from backends.upstream.page import Page
from backends.upstream.probe import Found, probe

TIMEOUT_S = 10.0


class Checked(NamedTuple):
    """A backend and what was found; `metrics` says what its metrics page has, None if none is configured."""

    backend: LiveBackendConfig
    dialect: str
    found: Found
    metrics: str | None

    @property
    def ok(self) -> bool:
        return self.found.ok and (self.metrics is None or not self.metrics.startswith("no "))


def check(loaded: LoadedConfig) -> list[Checked]:
    """Ask every live backend, all at a time."""
    backends = [each for each in loaded.config.backends if isinstance(each, LiveBackendConfig)]

    async def asked() -> list[Checked]:
        return await asyncio.gather(*(_check(each) for each in backends))

    return asyncio.run(asked())


def as_data(listed: Sequence[Checked]) -> list[dict[str, Any]]:
    """For `--json`."""
    return [
        {
            "backend": each.backend.name,
            "dialect": each.dialect,
            "url": each.backend.url,
            "ok": each.ok,
            "said": each.found.said,
            "seconds": round(each.found.seconds, 4),
            "models": each.found.models,
            "missing": each.found.missing,
            "metrics": each.metrics,
        }
        for each in listed
    ]


def show(listed: Sequence[Checked], console: Console) -> None:
    """For people."""
    table = Table("backend", "dialect", "url", "ms", "found")
    for each in listed:
        notes = [each.found.said]
        if each.found.missing:
            there = ", ".join((each.found.models or ())[:8]) or "none"
            notes.append(f"warning: not listed: {', '.join(each.found.missing)} (listed: {there})")
        if each.metrics is not None:
            notes.append(f"metrics: {each.metrics}")
        style = "" if each.ok else "red"
        row = (each.backend.name, each.dialect, each.backend.url or "", f"{each.found.seconds * 1000:.0f}")
        table.add_row(*row, "\n".join(notes), style=style)
    console.print(table)


async def _check(backend: LiveBackendConfig) -> Checked:
    spec = to_spec(backend)
    assert isinstance(spec, LiveSpec)
    if backend.kind == "local":
        return Checked(backend, spec.dialect or "", Found(True, "is started with the gateway", 0.0), None)
    found, metrics = await asyncio.gather(probe(spec, SystemClock(), TIMEOUT_S), _metrics(backend))
    return Checked(backend, spec.dialect or "", found, metrics)


async def _metrics(backend: LiveBackendConfig) -> str | None:
    if backend.monitor is None or backend.monitor.metrics_url is None:
        return None
    page = Page(backend.name, backend.monitor.metrics_url, TIMEOUT_S)
    try:
        load = parse(await page.read())
    except BackendError as error:
        return f"no page: {error}"
    except UnreadableMetrics as error:
        return f"no use: {error}"
    finally:
        await page.aclose()
    return f"read, {load.running} running and {load.waiting} waiting"
