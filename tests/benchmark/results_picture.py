"""$ per 1,000 good requests against attainment, one trace a picture, as a self-contained SVG. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Any

from app.replay.report import COLOURS

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 560, 40, 330
BAR = 99.0
TEXT = 'font-family="system-ui,sans-serif" font-size="12" fill="#222"'


def picture(title: str, tables: Sequence[Mapping[str, Any]]) -> str:
    """A line per policy from its lightest load to its heaviest (the larger, the heavier)."""
    policies = list(dict.fromkeys(row["policy"] for table in tables for row in table["policies"]))
    points = {policy: list(_points(policy, tables)) for policy in policies}
    known = [point for each in points.values() for point in each]
    if not known:
        return _svg(title, [_text(LEFT, TOP + 20, "No policy served anything well.")])
    low, high = floor(min(x for x, _, _ in known) * 4) / 4, ceil(max(x for x, _, _ in known) * 4 + 0.01) / 4
    bottom = min(90.0, floor(min(y for _, y, _ in known) / 10) * 10.0)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - low) / (high - low) * (RIGHT - LEFT),
            BOTTOM - (y - bottom) / (100.0 - bottom) * (BOTTOM - TOP),
        )

    marks = _frame(low, high, bottom, at(low, BAR)[1])
    for place, policy in enumerate(policies):
        colour = COLOURS[place % len(COLOURS)]
        marks.append(_text(RIGHT + 34, TOP + 6 + 18 * place, f"{place + 1} {policy}"))
        marks.append(f'<circle cx="{RIGHT + 24}" cy="{TOP + 2 + 18 * place}" r="5" fill="{colour}"/>')
        drawn = [(*at(x, y), size) for x, y, size in points[policy]]
        if not drawn:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in drawn)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
        marks += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}" fill-opacity="0.8"/>' for x, y, size in drawn
        ]
        x, y, _ = drawn[-1]
        marks.append(_text(x + 9, y + 14, str(place + 1)))
    return _svg(title, marks)


def _points(policy: str, tables: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, int]]:
    """log10 of the cost, % kept, and a radius, of the lightest load first."""
    found = []
    for place, table in enumerate(sorted(tables, key=lambda table: float(table["load"]))):
        for row in table["policies"]:
            if row["policy"] == policy and row["usd_per_1k_good"] and row["slo_attainment"] is not None:
                found.append((log10(row["usd_per_1k_good"]), 100.0 * row["slo_attainment"], 3 + 2 * min(place, 4)))
    return found


def _frame(low: float, high: float, bottom: float, bar_y: float) -> list[str]:
    marks = [f'<path d="M{LEFT},{TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#888"/>']
    for step in range(5):
        x, cost = LEFT + (RIGHT - LEFT) * step / 4, 10 ** (low + (high - low) * step / 4)
        marks.append(_text(x, BOTTOM + 18, f"{cost:.3g}", "middle"))
        y, kept = BOTTOM - (BOTTOM - TOP) * step / 4, bottom + (100.0 - bottom) * step / 4
        marks.append(_text(LEFT - 6, y + 4, f"{kept:g}", "end"))
        marks.append(f'<path d="M{LEFT},{y:.1f}H{RIGHT}" stroke="#eee"/>')
    marks.append(f'<path d="M{LEFT},{bar_y:.1f}H{RIGHT}" stroke="#2e933c" stroke-dasharray="4 4"/>')
    marks.append(_text(RIGHT, BOTTOM + 36, "$ per 1k good (log); dashed: 99 % kept", "end"))
    marks.append(_text(LEFT, TOP - 8, "in SLO %", "middle"))
    return marks


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {TEXT}>{escape(text)}</text>'


def _svg(title: str, marks: Sequence[str]) -> str:
    head = _text(WIDTH / 2, 16, f"{title} (emulated, not a hardware result)", "middle")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n' + "\n".join([head, *marks]) + "\n</svg>\n"
    )
