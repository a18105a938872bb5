"""A replay's results as one self-contained HTML file, with pictures in SVG. Pure: a summary in, text out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Any

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 20, 40
COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8d5a97", "#e08e45", "#4c9f9f", "#6b705c", "#b5838d", "#3d405b", "#c9a227")
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .5rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}text{font:12px system-ui,sans-serif}
.mark{background:#fff4d6;border:1px solid #e0b84c;padding:.5rem 1rem}
"""

Point = tuple[float, float]
Series = tuple[str, Sequence[Point]]


def html(summary: Mapping[str, Any]) -> str:
    """The page for what `turnout replay --json` prints."""
    trace, rows = summary["trace"], summary["policies"]
    head = (
        f"{trace['name']} ({trace['format']}, {trace['hash']}): {trace['requests']} requests in "
        f"{trace['span_s']:.0f} s; load {summary['load']:g}; model {summary['model']}; config {summary['config']}; "
        f"seeds {summary['seeds']}"
    )
    left_out = f"{trace['corrupt_lines']} corrupt lines and {trace['failed_requests']} failed requests were left out."
    parts = [
        "<h1>Replay</h1>",
        f"<p class=mark>{escape(summary['note'])}. Timing is computed from datasheets.</p>",
        f"<p>{escape(head)}. {left_out}</p>",
        _table(rows),
        "<h2>Cost against attainment</h2>",
        _cost_against_attainment(rows),
    ]
    for row in rows:
        parts += [f"<h2>{escape(row['policy'])}: utilisation over time</h2>", _utilisation(row)]
    parts += ["<h2>Error of prediction</h2>", _errors(rows)]
    body = "\n".join(parts)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Turnout replay (emulated)</title>"
        f"<style>{STYLE}</style><body>{body}</body></html>\n"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns: Sequence[tuple[str, Callable[[Mapping[str, Any]], str]]] = (
        ("policy", lambda row: escape(row["policy"])),
        ("requests", lambda row: str(row["requests"])),
        ("$ / 1k good", lambda row: _interval(row, "usd_per_1k_good", 1.0, ".4f")),
        ("in SLO %", lambda row: _interval(row, "slo_attainment", 100.0, ".2f")),
        ("good / s", lambda row: _number(row["goodput_rps"], 1.0, ".2f")),
        ("TTFT p95 ms", lambda row: _number(row["ttft_p95_s"], 1e3, ".0f")),
        ("TPOT p95 ms", lambda row: _number(row["tpot_p95_s"], 1e3, ".1f")),
        ("regret %", lambda row: _interval(row, "regret", 100.0, ".1f")),
        ("bill with idle $", lambda row: _number(row["bill_with_idle_usd"], 1.0, ".2f")),
    )
    head = "".join(f"<th>{name}</th>" for name, _ in columns)
    lines = ["<tr>" + "".join(f"<td>{cell(row)}</td>" for _, cell in columns) + "</tr>" for row in rows]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table><p>± is the 95 % interval over seeds.</p>"


def _cost_against_attainment(rows: Sequence[Mapping[str, Any]]) -> str:
    points = [
        (row["policy"], row["usd_per_1k_good"], 100 * row["slo_attainment"])
        for row in rows
        if row["usd_per_1k_good"] and row["slo_attainment"] is not None
    ]
    if not points:
        return "<p>No policy served anything well.</p>"
    costs = [log10(cost) for _, cost, _ in points]
    low, high = floor(min(costs) * 4) / 4, ceil(max(costs) * 4 + 0.01) / 4
    to_x, to_y = _scale(low, high, LEFT, WIDTH - RIGHT), _scale(0.0, 100.0, HEIGHT - BOTTOM, TOP)
    steps = [low + (high - low) * step / 4 for step in range(5)]
    marks = [_frame("$ per 1k good (log)", "in SLO %", [(to_x(at), f"{10**at:.3g}") for at in steps], to_y, 100.0)]
    for place, (_, cost, attained) in enumerate(points):
        x, y, colour = to_x(log10(cost)), to_y(attained), COLOURS[place % len(COLOURS)]
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        marks.append(f'<text x="{x:.1f}" y="{y + 18 + 12 * (place % 3):.1f}" text-anchor="middle">{place + 1}</text>')
    return _svg(marks) + _legend(f"{place + 1} {name}" for place, (name, _, _) in enumerate(points))


def _utilisation(row: Mapping[str, Any]) -> str:
    series: list[Series] = []
    for backend in row["backends"]:
        values = backend["utilisation_over_time"]
        if backend["requests"] and values:
            series.append(
                (backend["backend"], [(place / len(values), 100 * each) for place, each in enumerate(values)])
            )
    if not series:
        return "<p>Too short a trace to tell.</p>"
    to_x, to_y = _scale(0.0, 1.0, LEFT, WIDTH - RIGHT), _scale(0.0, 100.0, HEIGHT - BOTTOM, TOP)
    ticks = [(to_x(step / 4), f"{25 * step} %") for step in range(5)]
    marks = [_frame("of the trace's time", "busy %", ticks, to_y, 100.0)]
    for place, (_, points) in enumerate(series):
        path = " ".join(f"{to_x(x):.1f},{to_y(min(100.0, y)):.1f}" for x, y in points)
        colour = COLOURS[place % len(COLOURS)]
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return _svg(marks) + _legend(name for name, _ in series)


def _errors(rows: Sequence[Mapping[str, Any]]) -> str:
    names = (
        "policy",
        "backend",
        "load",
        "requests",
        "TTFT MAPE %",
        "TTFT q90 covers %",
        "TPOT MAPE %",
        "TPOT q90 covers %",
    )
    head = "".join(f"<th>{name}</th>" for name in names)
    lines = []
    for row in rows:
        for each in row["predictions"]:
            figures = [
                _number(each[name], 100.0, ".1f")
                for name in ("ttft_mape", "ttft_q90_coverage", "tpot_mape", "tpot_q90_coverage")
            ]
            cells = [escape(row["policy"]), escape(each["backend"]), each["load"], str(each["requests"]), *figures]
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        f"<table><tr>{head}</tr>{''.join(lines)}</table>"
        "<p>Mean absolute relative error, and the share of observations within the predicted 0.9 quantile. "
        "Load: requests in flight there when decided, none (idle), up to 7 (few), up to 31 (many), more (crowd).</p>"
    )


def _frame(
    x_name: str, y_name: str, x_ticks: Iterable[tuple[float, str]], to_y: Callable[[float], float], top: float
) -> str:
    bottom = HEIGHT - BOTTOM
    marks = [f'<path d="M{LEFT},{TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="#888"/>']
    marks += [f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>' for x, text in x_ticks]
    for step in range(5):
        value = top * step / 4
        marks.append(f'<text x="{LEFT - 6}" y="{to_y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        marks.append(f'<path d="M{LEFT},{to_y(value):.1f}H{WIDTH - RIGHT}" stroke="#eee"/>')
    marks.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_name)}</text>')
    marks.append(f'<text x="{LEFT}" y="12" text-anchor="middle">{escape(y_name)}</text>')
    return "".join(marks)


def _legend(names: Iterable[str]) -> str:
    return "<p>" + " &nbsp; ".join(
        f'<span style="color:{COLOURS[place % len(COLOURS)]}">&#9632;</span> {escape(name)}'
        for place, name in enumerate(names)
    ) + "</p>"  # fmt: skip


def _svg(marks: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(marks)}</svg>'


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _interval(row: Mapping[str, Any], name: str, scale: float, form: str) -> str:
    interval = row["ci95"][name]
    half = "" if interval is None else f" ±{(interval[1] - interval[0]) / 2 * scale:{form}}"
    return _number(row[name], scale, form) + half


def _number(value: float | None, scale: float, form: str) -> str:
    return "-" if value is None else f"{value * scale:{form}}"
