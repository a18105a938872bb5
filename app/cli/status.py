"""`turnout status`: how a running gateway is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from app.cli.admin import admin_options, answer_or_exit
from app.cli.loading import json_option


@click.command()
@admin_options
@json_option
def command(admin_url: str, admin_token: str | None, as_json: bool) -> None:
    """Whether it is ready, which configuration it runs, how its last reload went, what its backends do.

    --json prints what GET /admin/status answers, and `unserved`.
    """
    status = answer_or_exit("GET", f"{admin_url}/admin/status", admin_token)
    backends = answer_or_exit("GET", f"{admin_url}/admin/backends", admin_token)["backends"]
    nobody = unserved(status["models"], backends)
    print(json.dumps({**status, "unserved": nobody}) if as_json else told(status, nobody))


def unserved(models: Iterable[str], backends: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Models that no backend takes requests for at the moment, and why."""
    found: dict[str, str] = {}
    for model in models:
        out = {
            backend["name"]: _out(backend)
            for backend in backends
            if any(deployment["model"] == model for deployment in backend["deployments"])
        }
        whys = set(out.values())
        if None not in whys:
            each = ", ".join(f"{name} {why}" for name, why in out.items())
            found[model] = f"all {whys.pop()}" if len(whys) == 1 else each or "no backend has it"
    return found


def _out(backend: Mapping[str, Any]) -> str | None:
    """Why it gets nothing; None if it does. A backend that is full or warming up will be asked again by itself."""
    if backend["drained"]:
        return "drained"
    gated = backend.get("gated")
    return None if gated is None or gated["reason"] in ("full", "cold") else f"shut ({gated['reason']})"


def told(status: Mapping[str, Any], nobody: Mapping[str, str]) -> str:
    """A status for people; `nobody` are models that no backend serves, and why."""
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
            *(f"            {model}: nobody serves it: {why}" for model, why in nobody.items()),
            f"  sharing   {_sharing(status.get('sharing'))}",
            f"  in flight {status['in_flight']}",
        )
    )


def _sharing(shared: Mapping[str, Any] | None) -> str:
    if shared is None:
        return "off"
    store = "the store answers" if shared["up"] else "the store does NOT answer"
    told_of = f"{shared['processes']} process{'' if shared['processes'] == 1 else 'es'} told of late"
    oldest = (
        f", the oldest of the others' rows is {shared['oldest_row_s']:.1f} s old" if shared["processes"] > 1 else ""
    )
    return f"on: {store}; {told_of}{oldest}"


def _chilly(backends: dict[str, Any]) -> str:
    """Those that are not warm, if any can be cold."""
    return "".join(f", {what}: {', '.join(backends[what])}" for what in ("cold", "warming") if backends.get(what))


def _named(names: list[str]) -> str:
    return ", ".join(names) or "none"
