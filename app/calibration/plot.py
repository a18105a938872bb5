"""Predicted against measured, as a picture. Needs the extra `calibrate` (matplotlib); nothing else does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from app.calibration.report import Assessed

PANELS = {
    "tpot": "time per output token, ms",
    "tput": "output tokens a second of the group",
    "speed": "tokens a second of one user",
    "ttft": "time to first token, unloaded, ms",
}
PER_ROW = 2


def draw(assessed: Sequence[Assessed], path: Path) -> None:
    """Log-log, a panel a metric, a colour a chip; lines at equal and at a third off either way.

    Raises: ImportError without matplotlib; OSError; ValueError for a suffix it cannot write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 9.5), layout="constrained")
    FigureCanvasAgg(figure)
    chips = sorted({each.row.point.chip for each in assessed})
    colours = {chip: f"C{place % 10}" for place, chip in enumerate(chips)}
    for place, (metric, label) in enumerate(PANELS.items()):
        axes = figure.add_subplot(len(PANELS) // PER_ROW, PER_ROW, place + 1)
        _panel(axes, [each for each in assessed if each.row.point.metric == metric], colours)
        axes.set_title(label, fontsize=10)
    figure.savefig(path, dpi=110)


def _panel(axes: object, shown: Sequence[Assessed], colours: Mapping[str, str]) -> None:
    from matplotlib.axes import Axes

    if not isinstance(axes, Axes):
        raise TypeError("not a matplotlib Axes")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for place, (chip, colour) in enumerate(colours.items()):
        rows = [each for each in shown if each.row.point.chip == chip]
        if rows:
            measured = [each.row.point.measured for each in rows]
            predicted = [each.row.predicted(each.known) for each in rows]
            marker = "o" if place < 10 else "^"
            axes.scatter(measured, predicted, 9, color=colour, marker=marker, alpha=0.55, linewidths=0, label=chip)
    low, high = axes.get_xlim()
    for factor, style in ((1.0, "-"), (4 / 3, ":"), (3 / 4, ":")):
        axes.plot([low, high], [low * factor, high * factor], style, color="0.4", linewidth=0.8)
    axes.set_xlabel("measured", fontsize=9)
    axes.set_ylabel("predicted", fontsize=9)
    if shown:
        axes.legend(fontsize=7, markerscale=1.6)
