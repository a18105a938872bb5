"""`turnout replay`: real traffic through the router and emulated engines, in virtual time."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from app.cli.console import stdout
from app.cli.loading import CHECK_FAILED, INTERRUPTED, config_option, json_option, refuse_beside
from app.cli.playing import (
    EMULATED,
    jobs_option,
    limit_option,
    load_option,
    model_option,
    problems_exit,
    progress,
    seeds_option,
    writable,
)
from app.replay.baselines import missing
from app.replay.books import LATENCIES
from app.replay.capacity import Attained
from app.replay.faults import Fault, parse
from app.replay.report import html
from app.replay.runs import (
    Interrupted,
    Replay,
    Results,
    Run,
    UnknownName,
    capacity_of,
    config_of,
    model_of,
    play_all,
    policies_of,
    trace_of,
)
from app.replay.seeds import ORACLE, combined
from app.replay.tally import tally
from app.replay.traces import Trace

ALL = "all"
NOT_WITH_CAPACITY = ("policies", "seeds", "load", "oracle", "decisions", "report")
MANY_REQUESTS = 1_000_000
"""More than that take minutes or hours: it is said before they are played."""


def _faults(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[Fault, ...]:
    try:
        return tuple(parse(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


@click.command()
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option
@click.option("--policy", "policies", multiple=True, help="May be given several times; `all` for every one there is.")
@seeds_option("Runs per policy.")
@load_option("Traffic as a multiple of the trace's: shifted copies of it, or a part. Time is never squeezed.")
@limit_option
@model_option
@click.option("--oracle", is_flag=True, help="Also the same policy with the engines' own forecast, and the regret.")
@click.option(
    "--capacity", is_flag=True, help="Instead of policies: the highest load at which the oracle keeps 99.5 %."
)
@click.option(
    "--fault", "faults", multiple=True, callback=_faults, help="A backend is down: h100-70b:60-120 (seconds)."
)
@click.option("--strict", is_flag=True, help="Fail at the first corrupt line.")
@jobs_option
@click.option(
    "--decisions",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable,
    help="Write a line per decision here; with one policy and one seed only.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable,
    help="Write the results as one HTML file, too.",
)
@json_option
def command(
    trace: Path, path: Path | None, policies: tuple[str, ...], seeds: int, load: float, limit: int | None,
    model: str | None, oracle: bool, capacity: bool,
    faults: tuple[Fault, ...], strict: bool, jobs: int, decisions: Path | None,
    report: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Replay TRACE in virtual time: what each policy would have cost, and which promises it would have kept.

    Money is counted from the trace's beginning until the last request has ended, the bill with idle too: what the
    backends asked for cost until then, whether at work or not. Nothing is said of the time after it.
    """
    replay = Replay(trace, path, model, load, limit, strict, faults)
    if capacity:
        refuse_beside("--capacity", NOT_WITH_CAPACITY, "it tries loads with the oracle and one seed, in this process")
    with problems_exit():
        names = _policies(replay, policies, oracle)
        if capacity:
            _capacity(replay, as_json=as_json)
            return
        runs = [Run(name, seed, decisions) for name in names for seed in range(seeds)]
        if decisions is not None and len(runs) > 1:
            raise click.UsageError("--decisions takes one policy and one seed")
        if (requests := len(trace_of(replay).arrivals) * load * len(runs)) > MANY_REQUESTS:
            print(f"{requests:,.0f} requests are going to be played (requests x load x runs)", file=sys.stderr)
        try:
            results = _play(replay, runs, jobs, quiet=as_json)
        except KeyboardInterrupt as error:
            partly = error if isinstance(error, Interrupted) else Interrupted({}, 0, len(runs))
            _interrupted(described(replay, seeds, combined(partly.results)), partly, as_json=as_json)
        summary = described(replay, seeds, combined(results))
    if as_json:
        print(json.dumps(summary))
    else:
        show(summary, stdout())
    problems = [run["journal_problem"] for by_seed in results.values() for run in by_seed.values()
                if "journal_problem" in run]  # fmt: skip
    _files_told(decisions, problems, report, summary)


def _policies(replay: Replay, asked: Sequence[str], oracle: bool) -> list[str]:
    """Names in order, each once. The trace is read too, so that what is wrong is said before anything is played."""
    loaded = config_of(replay.config)
    known = policies_of(loaded)
    model_of(replay, loaded)
    trace_of(replay)
    names = list(dict.fromkeys(asked)) or [loaded.config.routing.default_policy]
    if ALL in names:
        names = list(dict.fromkeys([*(name for name in names if name != ALL), *known]))
    if unknown := [name for name in names if name not in (*known, ORACLE)]:
        raise UnknownName(f"there is no policy '{unknown[0]}' (there are: {', '.join([*known, ORACLE, ALL])})")
    return [*names, ORACLE] if oracle and ORACLE not in names else names


def _files_told(
    decisions: Path | None, problems: Sequence[str], report: Path | None, summary: Mapping[str, Any]
) -> None:
    """Writes the report; exits 1 if a file could not be written. By now the results have been shown."""
    said = [f"--decisions: {decisions} is not whole: {problem}" for problem in problems]
    if report is not None:
        try:
            report.write_text(html(summary), encoding="utf-8")
        except OSError as error:
            said.append(f"--report: {report} could not be written: {error}")
    if said:
        print(*said, sep="\n", file=sys.stderr)
        sys.exit(CHECK_FAILED)


def _interrupted(summary: dict[str, Any], partly: Interrupted, *, as_json: bool) -> NoReturn:
    """The runs that had finished, as results; exits 130."""
    if as_json:
        print(json.dumps({**summary, "interrupted": {"finished": partly.finished, "runs": partly.runs}}))
    elif partly.finished:
        show(summary, stdout())
    print(f"interrupted: {partly.finished} of {partly.runs} runs", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _play(replay: Replay, runs: Sequence[Run], jobs: int, *, quiet: bool) -> Results:
    if quiet:
        return play_all(replay, runs, jobs, lambda: None)
    requests = round(len(trace_of(replay).arrivals) * replay.load) * len(runs)
    with (
        tally(len(runs)) as counted,
        progress("replaying", len(runs), quiet=False, requests=requests, played=counted.done) as done,
    ):
        return play_all(replay, runs, jobs, done, counted.places)


def _capacity(replay: Replay, *, as_json: bool) -> None:
    def told(attained: Attained) -> None:
        if not as_json:
            more = "" if attained.whole else " or less, broken off"
            print(f"load {attained.load:.3g}: {attained.attainment:.2%}{more}", file=sys.stderr)

    found = capacity_of(replay, 0, told)
    if as_json:
        print(json.dumps({"capacity": found, **_rests_on(replay)}))
    elif found["load"] is None:
        print(f"no load keeps {found['bar']:.1%}: the lowest tried attained {found['tried'][-1]['slo_attainment']:.2%}")
    else:
        print(
            f"capacity: {found['load']:.3g} times the trace, {found['requests_per_s']:.3g} requests/s "
            f"(oracle keeps {found['bar']:.1%}; {EMULATED})"
        )


def described(replay: Replay, seeds: int, results: list[dict[str, Any]]) -> dict[str, Any]:
    """The results with what they rest on."""
    return {"policies": results, **_rests_on(replay), "seeds": seeds, "baselines_missing": missing()}


def _rests_on(replay: Replay) -> dict[str, Any]:
    loaded, trace = config_of(replay.config), trace_of(replay)
    return {
        "trace": _trace(trace),
        "model": model_of(replay, loaded),
        "load": replay.load,
        "limit": replay.limit,
        "faults": [fault._asdict() for fault in replay.faults],
        "config": loaded.hash,
        "note": EMULATED,
    }


def _trace(trace: Trace) -> dict[str, Any]:
    return {
        "name": trace.name,
        "format": trace.format,
        "hash": trace.hash,
        "requests": len(trace.arrivals),
        "span_s": trace.span_s,
        "corrupt_lines": trace.corrupt,
        "failed_requests": trace.failed,
        "skipped": [{"line": each.line, "reason": each.reason} for each in trace.skipped],
    }


def show(summary: Mapping[str, Any], console: Console) -> None:
    """The results for people."""
    trace = summary["trace"]
    console.print(
        f"{trace['name']} ({trace['format']}, {trace['hash']}): {trace['requests']} requests in "
        f"{trace['span_s']:.0f} s, load {summary['load']:g}, model {summary['model']}, "
        f"config {summary['config']}, seeds {summary['seeds']}",
        highlight=False,
    )
    if trace["corrupt_lines"] or trace["failed_requests"]:
        console.print(
            f"{trace['corrupt_lines']} corrupt lines and {trace['failed_requests']} failed requests left out:",
            highlight=False,
        )
        for each in trace["skipped"][:10]:
            console.print(f"  line {each['line']}: {each['reason']}", highlight=False, markup=False)
    if unknown := summary["policies"][0]["unknown_models"] if summary["policies"] else {}:
        named = ", ".join(f"{count} x {name}" for name, count in unknown.items())
        console.print(f"models not in this configuration, played as {summary['model']}: {named}", markup=False)
    table = Table()
    table.add_column("policy", no_wrap=True)
    for heading in ("requests", "$ / 1k good", "$ / M tokens", "in SLO", "good / s", "TTFT p50 ms", "p95",
                    "TPOT p50 ms", "p95", "regret", "bill with idle $"):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in summary["policies"]:
        table.add_row(*_cells(row))
    console.print(table)
    for row in summary["policies"]:
        if row["refused"]:
            refused = ", ".join(f"{count} x {reason}" for reason, count in row["refused"].items())
            console.print(f"{row['policy']}: {refused}", highlight=False)
        if row["lower_bound"] is not None:
            console.print(
                f"lower bound for serving everybody who can be served: {row['lower_bound']:.4f} $ / 1k "
                f"({row['impossible']} requests could not be, even by idle silicon)",
                highlight=False,
            )
    if summary["baselines_missing"]:
        console.print(f"not in this version: {', '.join(summary['baselines_missing'])}", highlight=False)
    console.print(f"{EMULATED}; ± = 95 % interval over seeds", highlight=False)


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["policy"],
        str(row["requests"]),
        _with_interval(row, "usd_per_1k_good", 1.0, ".4f"),
        _plain(row["usd_per_1m_tokens"], 1.0, ".4f"),
        _with_interval(row, "slo_attainment", 100.0, ".2f", " %"),
        _plain(row["goodput_rps"], 1.0, ".2f"),
        *(_plain(row[name], 1e3, ".1f") for name in LATENCIES),
        _with_interval(row, "regret", 100.0, ".1f", " %"),
        _plain(row["bill_with_idle_usd"], 1.0, ".2f"),
    ]


def _plain(value: float | None, scale: float, form: str) -> str:
    return "-" if value is None else f"{value * scale:{form}}"


def _with_interval(row: Mapping[str, Any], name: str, scale: float, form: str, unit: str = "") -> str:
    value, interval = row[name], row["ci95"][name]
    if value is None:
        return "-"
    half = "" if interval is None else f" ±{(interval[1] - interval[0]) / 2 * scale:{form}}"
    return f"{value * scale:{form}}{half}{unit}"
