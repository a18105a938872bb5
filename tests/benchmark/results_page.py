"""docs/results.md from tests/benchmark/results/evaluation.json: `python -m tests.benchmark.results_page`.

`make results` makes the figures, this the page: a table for each trace and load, the bars with pass or miss worked out
from the figures, and a picture for each trace beside the page. Nothing is played here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.replay.runs import config_of, policies_of
from app.replay.seeds import ORACLE
from tests.benchmark import results_bars as bars
from tests.benchmark.evaluation import LIMITS, RESULTS, ROOT, code_hash
from tests.benchmark.results_picture import picture

EMULATED = "emulated, not a hardware result"
COLUMNS = (
    "policy", "in SLO %", "$ / 1k good", "bill with idle $", "good / s", "TTFT p50 ms", "p95", "TPOT p50 ms", "p95",
    "regret %",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description="Write the results page from what `make results` stored.")
    parser.add_argument("--evaluation", type=Path, default=RESULTS / "evaluation.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md")
    options = parser.parse_args(arguments)
    if not options.evaluation.is_file():
        parser.exit(1, f"{options.evaluation.name} is not there: run `make results` first\n")
    evaluation = json.loads(options.evaluation.read_text())
    options.page.write_text("\n".join(lines(evaluation)) + "\n")
    for trace, tables in by_trace(evaluation).items():
        (options.page.parent / picture_name(trace)).write_text(picture(trace, tables))


def by_trace(evaluation: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Tables of each trace, the lightest load first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for table in sorted(evaluation["tables"], key=lambda table: (table["trace"], table["load"])):
        found.setdefault(table["trace"], []).append(table)
    return found


def picture_name(trace: str) -> str:
    """The file of a trace's picture."""
    return f"results-{trace.split('.')[0]}.svg"


def lines(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """The page, line by line."""
    traces = by_trace(evaluation)
    capacities = {each["trace"]: each for each in evaluation["capacity"]}
    yield "# Results"
    yield ""
    yield (
        f"Every number here is **{EMULATED}**: real traces, replayed in virtual time through the gateway's own code on "
        "emulated engines ([replay.md](replay.md) says how, and what the words mean). Written by `python -m "
        "tests.benchmark.results_page` from what `make results` stored; do not edit it by hand."
    )
    yield ""
    yield (
        f"Shipped fleet (config `{evaluation['config']}`), code `{evaluation['code']}`. Loads are shares of the "
        "fleet's capacity on the trace: the load up to which the oracle keeps 99.5 % of promises. Figures are means "
        "over seeds, ± is their 95 % interval (Student's t); comparisons are paired by seed. $ / 1k good is what the "
        "requests are forecast to cost on owned silicon at its reference utilisation, and what services charge: what a "
        "policy saves of it is saved where idle silicon is of use to somebody else. The bill with idle time is for the "
        "whole fleet until the last request has ended, at loads that leave most of it idle."
    )
    if (now := code_hash()) != evaluation["code"]:
        yield ""
        yield f"The code has changed since: it was `{now}` when this page was written. Its figures may be others."
    played = {row["policy"] for table in evaluation["tables"] for row in table["policies"]}
    absent = [name for name in LIMITS if name not in traces]
    absent += [f"policy `{name}`" for name in policies_of(config_of(None)) if name not in played]
    if absent:
        yield ""
        yield f"Not evaluated: {', '.join(absent)}."
    yield ""
    yield from _bars(traces, capacities)
    for trace, tables in traces.items():
        yield from _trace(trace, tables, capacities.get(trace))


def _bars(traces: Mapping[str, Sequence[Mapping[str, Any]]], capacities: Mapping[str, Any]) -> Iterator[str]:
    yield "## The bars"
    yield ""
    yield "| trace | load | (a) cheapest at 99 % | (b) keeps 99 % | (c) regret at most 8 % |"
    yield "|---|---|---|---|---|"
    for trace, tables in traces.items():
        for table in tables:
            verdicts = (bars.cheapest(table), bars.kept(table), bars.regret(table))
            cells = " | ".join(f"{verdict.result}: {verdict.why}" for verdict in verdicts)
            yield f"| {_short(trace)} | {_load(table, capacities.get(trace))} | {cells} |"
    yield ""
    yield "| trace | (d) at some load the oracle keeps 99.5 % and round-robin less than 95 % |"
    yield "|---|---|"
    for trace, tables in traces.items():
        verdict = bars.telling(tables)
        yield f"| {_short(trace)} | {verdict.result}: {verdict.why} |"
    yield ""
    yield (
        f"(a) `{bars.OURS}` has the lowest $ / 1k good of the policies evaluated that keep 99 %, with the paired "
        "95 % interval of the difference to each other one above 0 (*not settled* where it holds 0). The oracle does "
        "not compete. "
        f"(b) asked where the oracle keeps 99.5 %. (c) stretch: 3 %. {EMULATED.capitalize()}; made by `make results`."
    )
    yield ""


def _trace(trace: str, tables: Sequence[Mapping[str, Any]], capacity: Mapping[str, Any] | None) -> Iterator[str]:
    yield f"## {_short(trace)}"
    yield ""
    if capacity is not None:
        found, limit = capacity["capacity"], capacity["limit"]
        taken = "all" if limit is None else f"the first {limit:,}"
        yield (
            f"{trace} (`{capacity['hash']}`), {taken} requests before load. "
            f"Capacity: {found['load']:.3g} times the trace, {found['requests_per_s']:.3g} requests/s ({EMULATED}; "
            f"`turnout replay {trace}{_limited(limit)} --capacity`)."
        )
        yield ""
    yield f"![$ per 1,000 good requests against attainment, emulated]({picture_name(trace)})"
    yield ""
    for table in tables:
        yield from _table(trace, table, capacity)


def _table(trace: str, table: Mapping[str, Any], capacity: Mapping[str, Any] | None) -> Iterator[str]:
    rows = table["policies"]
    seeds = max(len(row["seeds"]) for row in rows)
    yield f"### {_short(trace)}, load {_load(table, capacity)}"
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---|" + "--:|" * (len(COLUMNS) - 1)
    rivals = bars.rivals(table)
    for row in sorted(rows, key=lambda row: (not bars.reaches(row), row["usd_per_1k_good"] or float("inf"))):
        yield f"| {' | '.join(_cells(row, best=bool(rivals) and row is rivals[0]))} |"
    yield ""
    yield f"{_said(rivals)} {EMULATED.capitalize()}; made by `make results`, this table alone by"
    yield ""
    policies = " ".join(f"--policy {row['policy']}" for row in rows if row["policy"] != ORACLE)
    oracle = " --oracle" if bars.row_of(table, ORACLE) else ""
    limit = None if capacity is None else capacity["limit"]
    yield f"    turnout replay {trace}{_limited(limit)} --load {table['load']:g} --seeds {seeds} {policies}{oracle}"
    yield ""


def _said(rivals: Sequence[Mapping[str, Any]]) -> str:
    if not rivals:
        return "No policy keeps 99 %."
    if rivals[0]["policy"] == bars.OURS:
        return f"Bold: the cheapest policy that keeps 99 %, `{bars.OURS}`."
    return f"Bold: the cheapest policy that keeps 99 %. `{bars.OURS}` does **not** win here."


def _cells(row: Mapping[str, Any], *, best: bool) -> list[str]:
    name = f"**{row['policy']}**" if best else row["policy"]
    return [
        name,
        _figure(row, "slo_attainment", 100.0, ".2f"),
        _figure(row, "usd_per_1k_good", 1.0, ".4f"),
        _figure(row, "bill_with_idle_usd", 1.0, ".2f", interval=False),
        _figure(row, "goodput_rps", 1.0, ".2f", interval=False),
        *(_figure(row, key, 1e3, ".1f", interval=False)
          for key in ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s")),
        _figure(row, "regret", 100.0, ".1f"),
    ]  # fmt: skip


def _figure(row: Mapping[str, Any], name: str, scale: float, form: str, *, interval: bool = True) -> str:
    value = row[name]
    if value is None:
        return "-"
    between = row["ci95"].get(name) if interval else None
    half = "" if between is None else f" ±{(between[1] - between[0]) / 2 * scale:{form}}"
    return f"{value * scale:{form}}{half}"


def _load(table: Mapping[str, Any], capacity: Mapping[str, Any] | None) -> str:
    found = None if capacity is None else capacity["capacity"]["load"]
    share = f", {100 * table['load'] / found:.0f} % of capacity" if found else ""
    return f"{table['load']:g}{share}"


def _limited(limit: int | None) -> str:
    return "" if limit is None else f" --limit {limit}"


def _short(trace: str) -> str:
    return trace.split(".")[0]


if __name__ == "__main__":
    main()
