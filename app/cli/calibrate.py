"""`turnout calibrate`: emulated timing against published measurements. Fits and reports; `--check` only predicts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isinf
from pathlib import Path
from typing import Any

import click

from app.calibration import queueing, report, store
from app.calibration.fit import Fit, usable
from app.calibration.points import Point, Skipped, UnreadableRow, read_all
from app.calibration.predict import LANE_LAYER_US, Prepared, prepare, stored_constants
from app.cli.loading import CHECK_FAILED, config_option, json_option, load_or_exit
from app.config.load import LoadedConfig
from app.errors import CalibrationError
from backends.datasheet import Datasheets
from backends.errors import BackendConfigError

DATA_FILES = ("calibration_points.csv", "calibration_silicon.csv")

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@config_option
@click.option("--points", "point_files", multiple=True, type=_file, help="Measured points to fit to; may be repeated.")
@click.option("--check", "check_file", type=_file, help="Predict these rows with the stored constants; fit nothing.")
@click.option(
    "--plot", "plot_path", type=click.Path(dir_okay=False, path_type=Path), help="Draw predicted against measured."
)
@click.option(
    "--runs",
    "run_folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A recorded server run (or a folder of such) to replay: fit on its first requests, predict the others.",
)
@click.option("--write", is_flag=True, help="Store the fitted constants in the datasheets (config/substrates).")
@json_option
def command(
    path: Path | None,
    point_files: tuple[Path, ...],
    check_file: Path | None,
    plot_path: Path | None,
    run_folders: tuple[Path, ...],
    write: bool,
    as_json: bool,
) -> None:
    """Fit the emulator's constants to measured points and say how far off it is."""
    if run_folders:
        if check_file is not None or point_files or write or plot_path:
            raise click.UsageError("--runs replays recorded runs: the other options do not go with it")
        _replay_runs(run_folders, load_or_exit(path).sheets, as_json)
        return
    if check_file is not None and (point_files or write or plot_path):
        raise click.UsageError("--check predicts with what is stored: --points, --plot and --write do not go with it")
    loaded = load_or_exit(path)
    prepared, skipped = _prepared([check_file] if check_file else point_files or _default_points(), loaded.sheets)
    if check_file is not None:
        _check(prepared, skipped, loaded.sheets, as_json)
        return
    if not any(usable(row) for row in prepared):
        print("no row to fit to", *(f"{each.row}: {each.reason}" for each in skipped), sep="\n", file=sys.stderr)
        sys.exit(CHECK_FAILED)
    versions = {value: [prepare(row.point, loaded.sheets, value) for row in prepared] for value in LANE_LAYER_US}
    found, assessed, chosen = report.assess(prepared, versions=versions)
    today = datetime.now(UTC).date().isoformat()
    if plot_path is not None:
        _draw(assessed, plot_path)
    if write:
        _write(loaded, found, assessed, today)
    said = {
        "date": today,
        "rows": len(assessed),
        "platforms": report.platforms(assessed),
        "models": report.models(assessed),
        "bars": report.bars(assessed),
        "lane_layer_us_chosen": {"kfold": chosen.kfold, "unseen": chosen.unseen},
        "not_blind": " ".join(report.NOT_BLIND),
        "skipped": [{"row": each.row, "reason": each.reason} for each in skipped],
    }
    if as_json:
        print(json.dumps(said))
    else:
        _print(said)


def _replay_runs(folders: Sequence[Path], sheets: Datasheets, as_json: bool) -> None:
    try:
        found = [
            queueing.validate(queueing.load_run(run, sheets), sheets)
            for folder in folders
            for run in queueing.runs_in(folder)
        ]
    except (CalibrationError, BackendConfigError) as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)
    if as_json:
        print(json.dumps({"runs": [queueing.as_plain(each) for each in found]}))
    else:
        print(*(queueing.told(each) for each in found), sep="\n\n")


def _default_points() -> list[Path]:
    """The data beside the checkout."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    found = [folder / name for name in DATA_FILES if (folder / name).is_file()]
    if not found:
        raise click.UsageError(
            f"there is no {' or '.join(DATA_FILES)} in shared/data beside the checkout: give --points"
        )
    return found


def _prepared(paths: Sequence[Path], sheets: Datasheets) -> tuple[list[Prepared], list[Skipped]]:
    try:
        points, skipped = read_all(paths, sheets)
    except (OSError, UnreadableRow) as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)
    prepared = []
    for point in points:
        try:
            prepared.append(prepare(point, sheets))
        except UnreadableRow as error:
            skipped.append(Skipped(f"{point.hw} {point.model} {point.metric}", str(error)))
    return prepared, skipped


def _check(prepared: Sequence[Prepared], skipped: Sequence[Skipped], sheets: Datasheets, as_json: bool) -> None:
    rows = [_row(each, sheets) for each in prepared]
    if as_json:
        print(json.dumps({"rows": rows, "skipped": [{"row": each.row, "reason": each.reason} for each in skipped]}))
    else:
        _print_check(rows, skipped)
    if not rows:
        print("no row could be predicted", file=sys.stderr)
        sys.exit(CHECK_FAILED)


def _print_check(rows: Sequence[dict[str, Any]], skipped: Sequence[Skipped]) -> None:
    for each in skipped:
        print(f"skipped: {each.row}: {each.reason}", file=sys.stderr)
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        error = report.error_percent(row["predicted"], row["measured"])
        groups.setdefault((row["hw"], row["model"], row["metric"]), []).append(error)
    print(f"{'chip':<12} {'model':<18} {'metric':<10} {'n':>5} {'median %':>9} {'p90 %':>7}")
    for (hw, model, metric), errors in sorted(groups.items()):
        middle, tail = report.quantile(errors, 0.5), report.quantile(errors, 0.9)
        print(f"{hw:<12} {model:<18} {metric:<10} {len(errors):>5} {_number(middle):>9} {_number(tail):>7}")


def _row(each: Prepared, sheets: Datasheets) -> dict[str, Any]:
    point: Point = each.point
    return {
        "hw": point.hw,
        "model": point.shown_model,
        "precision": point.shown_precision,
        "metric": point.metric,
        "isl": _whole(point.shown_isl),
        "osl": _whole(point.shown_osl),
        "concurrency": "max" if isinf(point.concurrency) else _whole(point.concurrency),
        "measured": point.measured,
        "predicted": each.predicted(stored_constants(sheets.chip(point.chip), point.software)),
    }


def _whole(value: float) -> float | int:
    """A count as the file has it: without a fraction where there is none."""
    return int(value) if value == int(value) else value


def _draw(assessed: Sequence[report.Assessed], path: Path) -> None:
    from app.calibration import plot

    try:
        plot.draw(assessed, path)
    except ImportError:
        raise click.UsageError("--plot needs matplotlib: install the extra `turnout[calibrate]`") from None
    except (OSError, ValueError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        sys.exit(CHECK_FAILED)


def _write(loaded: LoadedConfig, found: Fit, assessed: Sequence[report.Assessed], date: str) -> None:
    folder = loaded.path.parent / "substrates"
    if not folder.is_dir():
        raise click.UsageError(f"{folder} is not there: --write needs datasheets of its own beside the configuration")
    try:
        for path in store.write(folder, loaded.sheets, found, assessed, date):
            print(f"wrote {path}", file=sys.stderr)
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)


def _print(said: dict[str, Any]) -> None:
    print(f"{said['rows']} rows, {len(said['skipped'])} skipped (--json says why)")
    print("errors in percent: |predicted / measured - 1|; kfold: five folds by row; unseen: every row of the model's")
    print("architecture left out, on all chips of the family")
    print(*report.NOT_BLIND, sep="\n")
    for name, chosen in said["lane_layer_us_chosen"].items():
        shown = ", ".join(f"{value:g} us in {parts}" for value, parts in chosen.items())
        print(f"lane_layer_us chosen by the training parts of {name}: {shown}")
    print()
    heads = f"{'n':>5} {'median':>7} {'p90':>6} {'kfold':>6} {'unseen':>7} (n)"
    print(f"{'chip':<10} {'software':<9} {'MFU':>5} {'MBU':>5} {'us/layer':>8} {'MoE MFU':>7} {heads}")
    for line in said["platforms"]:
        known = line["constants"]
        shown = " ".join(
            f"{'-' if known[name] is None else known[name]:>{width}}"
            for name, width in (("mfu", 5), ("mbu", 5), ("layer_time_us", 8), ("moe_mfu", 7))
        )
        print(f"{line['chip']:<10} {line['software']:<9} {shown} {_errors(line)}")
    print(f"\n{'chip':<10} {'metric':<6} {'model':<20} {heads}")
    for line in said["models"]:
        print(f"{line['chip']:<10} {line['metric']:<6} {line['model']:<20} {_errors(line)}")
    print(f"\n{'bar':<45} {'n':>5} {'median':>7} {'limit':>6} {'p90':>6} {'limit':>6}")
    for bar in said["bars"]:
        limits = (bar["median_percent"], bar["median_at_most"], bar["p90_percent"], bar["p90_at_most"])
        shown = " ".join(f"{_number(value):>{width}}" for value, width in zip(limits, (7, 6, 6, 6), strict=True))
        print(f"{bar['bar']:<45} {bar['n']:>5} {shown} {'met' if bar['met'] else 'MISSED'}")


def _errors(line: dict[str, Any]) -> str:
    return (
        f"{line['n']:>5} {_number(line['median_percent']):>7} {_number(line['p90_percent']):>6} "
        f"{_number(line['kfold_median_percent']):>6} {_number(line['unseen_median_percent']):>7} ({line['unseen_n']})"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
