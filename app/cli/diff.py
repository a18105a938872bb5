"""`turnout diff`: what another configuration would change, on real traffic in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.cli.console import stdout
from app.cli.loading import json_option, policy_option
from app.cli.playing import (
    EMULATED,
    jobs_option,
    limit_option,
    load_option,
    model_option,
    problems_exit,
    progress,
    seeds_option,
)
from app.config import changes
from app.config.load import SHIPPED, LoadedConfig
from app.errors import ConfigError
from app.replay.difference import Side, difference, left_out, pairs
from app.replay.runs import Replay, UnknownName, config_of, model_of, policies_of, trace_of
from app.replay.seeds import ORACLE

MOVES_SHOWN = 20
VALUE_SHOWN = 60
ROWS = (
    ("requests that keep every promise", "good", 1.0, ",.7g"),
    ("of those promised anything, %", "slo_attainment", 100.0, ".2f"),
    ("answered", "answered", 1.0, ",.7g"),
    ("$ / 1k good", "usd_per_1k_good", 1.0, ".4f"),
    ("forecast-basis cost of owned silicon, $", "forecast_usd", 1.0, ".4f"),
    ("token spend, $", "token_spend_usd", 1.0, ".4f"),
    ("billed for requests, $", "effective_usd", 1.0, ".4f"),
    ("bill with idle, $", "bill_with_idle_usd", 1.0, ".4f"),
)


def _config(context: click.Context, argument: click.Parameter, value: str) -> Path | None:
    return None if value == SHIPPED else Path(value)


@click.command()
@click.argument("old", callback=_config)
@click.argument("new", callback=_config)
@click.option(
    "--trace",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The traffic to replay on both.",
)
@limit_option
@load_option("Traffic as a multiple of the trace's.")
@seeds_option("Runs on each side.")
@model_option
@policy_option
@jobs_option
@json_option
def command(
    old: Path | None, new: Path | None, trace: Path, limit: int | None, load: float, seeds: int, model: str | None,
    policy: str | None, jobs: int, as_json: bool,
) -> None:  # fmt: skip
    """What differs between OLD and NEW, and how many decisions and how much money that would change on a trace.

    OLD and NEW are configuration files, or the word `shipped`.
    """
    replays = [Replay(trace, path, model, load, limit) for path in (old, new)]
    with problems_exit():
        one, other = _loaded(old, new)
        sides = [_side(replay, loaded, policy) for replay, loaded in zip(replays, (one, other), strict=True)]
        found = changes.compare(one, other)
        settings = [setting._asdict() for setting in changes.settings(one, other)]
        summary = {"changes": found.plain(), "settings": settings, **_rests_on(sides[0], sides[1], seeds)}
        if found or one.hash != other.hash:
            summary |= _played(sides[0], sides[1], seeds, jobs, quiet=as_json)
    if as_json:
        print(json.dumps(summary))
    else:
        show(summary, stdout())


def _loaded(old: Path | None, new: Path | None) -> tuple[LoadedConfig, LoadedConfig]:
    """Both, or every problem of both."""
    loaded: list[LoadedConfig] = []
    problems: list[str] = []
    for path in (old, new):
        try:
            loaded.append(config_of(path))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return loaded[0], loaded[1]


def _side(replay: Replay, loaded: LoadedConfig, policy: str | None) -> Side:
    """A side that can be played; the trace is read too, so that what is wrong is said before anything is."""
    trace_of(replay)
    name = loaded.config.routing.default_policy if policy is None else policy
    known = [*policies_of(loaded), ORACLE]
    if name not in known:
        raise UnknownName(f"{loaded.path}: there is no policy '{name}' (there are: {', '.join(known)})")
    try:
        model_of(replay, loaded)
    except UnknownName as error:
        raise UnknownName(f"{loaded.path}: {error}") from None
    return Side(replay, name)


def _rests_on(old: Side, new: Side, seeds: int) -> dict[str, Any]:
    trace, replay = trace_of(old.replay), old.replay
    models = [model_of(side.replay, config_of(side.replay.config)) for side in (old, new)]
    return {
        "trace": {
            "name": trace.name,
            "format": trace.format,
            "hash": trace.hash,
            "corrupt_lines": trace.corrupt,
            "failed_requests": trace.failed,
        },
        "load": replay.load,
        "limit": replay.limit,
        "seeds": seeds,
        "model": {"old": models[0], "new": models[1]},
        "policy": {"old": old.policy, "new": new.policy},
        "left_out": {"old": left_out(old), "new": left_out(new)},
        "difference": None,
        "note": EMULATED,
    }


def _played(old: Side, new: Side, seeds: int, jobs: int, *, quiet: bool) -> dict[str, Any]:
    with progress("replaying both", seeds, quiet=quiet) as done:
        return {"difference": difference(pairs(old, new, seeds, jobs, done))}


def show(summary: Mapping[str, Any], console: Console) -> None:
    """The difference for people."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    changed, found = summary["changes"], summary["difference"]
    if found is None:
        say(f"nothing differs (config {changed['config']})")
        return
    say(f"config {changed['from']} -> {changed['config']}")
    for line in changes.lines(changed):
        say(line)
    for setting in summary["settings"]:
        say(f"  {setting['path']}: {_value(setting['old'])} -> {_value(setting['new'])}")
    for what in ("policy", "model"):
        both = summary[what]
        if both["old"] != both["new"]:
            say(f"  {what}: {both['old']} -> {both['new']}")
    for side, names in summary["left_out"].items():
        if names:
            say(f"left out of {side}, live backends cannot be replayed: {', '.join(names)}")
    trace = summary["trace"]
    say(
        f"{trace['name']} ({trace['format']}, {trace['hash']}): {found['requests']:.0f} requests, load "
        f"{summary['load']:g}, policy {_both(summary['policy'])}, seeds {summary['seeds']}"
    )
    if trace["corrupt_lines"] or trace["failed_requests"]:
        say(f"{trace['corrupt_lines']} corrupt lines and {trace['failed_requests']} failed requests left out")
    _show_moves(found, console, say)
    _show_figures(found, console)
    say(f"{EMULATED}" + ("; ± = 95 % interval over seeds, paired" if summary["seeds"] > 1 else ""))


def _show_moves(found: Mapping[str, Any], console: Console, say: Callable[[str], None]) -> None:
    moved, promises = found["moved"], found["promises"]
    say(
        f"{moved['requests']:g}{_half(moved['ci95'], 1.0, '.1f')} requests ({moved['share']:.1%}) would go "
        f"elsewhere; {promises['gained']:g} would keep their promise that did not, "
        f"{promises['lost']:g} no longer would"
    )
    if not found["moves"]:
        return
    table = Table()
    table.add_column("from")
    table.add_column("to")
    table.add_column("requests", justify="right")
    for move in found["moves"][:MOVES_SHOWN]:
        table.add_row(move["from"] or "(refused)", move["to"] or "(refused)", f"{move['requests']:g}")
    console.print(table)
    if left := found["moves"][MOVES_SHOWN:]:
        say(f"and {sum(move['requests'] for move in left):g} in {len(left)} more ways (--json has all)")


def _show_figures(found: Mapping[str, Any], console: Console) -> None:
    table = Table()
    table.add_column("")
    for heading in ("old", "new", "difference"):
        table.add_column(heading, justify="right")
    for title, name, scale, form in ROWS:
        figure = found["figures"][name]
        apart = figure["difference"]
        table.add_row(
            title,
            _plain(figure["old"], scale, form),
            _plain(figure["new"], scale, form),
            "-" if apart is None else f"{apart * scale:+{form}}{_half(figure['ci95'], scale, form)}",
        )
    console.print(table)


def _both(names: Mapping[str, str]) -> str:
    old, new = names["old"], names["new"]
    return new if old == new else f"{old} (old) and {new} (new)"


def _value(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}..."


def _plain(value: float | None, scale: float, form: str) -> str:
    return "-" if value is None else f"{value * scale:{form}}"


def _half(interval: tuple[float, float] | None, scale: float, form: str) -> str:
    return "" if interval is None else f" ±{(interval[1] - interval[0]) / 2 * scale:{form}}"
