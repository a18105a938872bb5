"""Fitted constants as the last section of the datasheets in config/substrates, for `turnout calibrate --write`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from app.calibration.fit import Fit, usable
from app.calibration.predict import Prepared
from app.calibration.report import Assessed, quantile
from backends.datasheet import Constants, Datasheets

MARKER = "# ---- from here on written by `turnout calibrate --write` (docs/calibration.md); edit above ----\n"
FEWEST_ROWS = 3
ROWS_PER_CONSTANT = 3
WORST_MEDIAN_PERCENT = 25.0


def write(folder: Path, sheets: Datasheets, found: Fit, assessed: Sequence[Assessed], date: str) -> list[Path]:
    """Rewrites the last section of every datasheet file under `folder`.

    Raises: OSError.
    """
    written = []
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_text(encoding="utf-8").split(MARKER)[0]
        chips = yaml.safe_load(text)["chips"]
        sections = {chip: section for chip in chips if (section := _section(chip, sheets, found, assessed, date))}
        if sections:
            dumped = yaml.safe_dump({"fitted": sections}, sort_keys=False, width=118, allow_unicode=True)
            text = text.rstrip("\n") + "\n" + MARKER + dumped
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _section(
    chip: str, sheets: Datasheets, found: Fit, assessed: Sequence[Assessed], date: str
) -> dict[str, Any] | None:
    """What goes into `fitted` for a chip; None if it has too few rows and its family none."""
    sheet = sheets.chip(chip)
    family = sheet.family or chip
    own = [each for each in assessed if each.row.point.chip == chip and usable(each.row)]
    of_family = [each for each in assessed if each.row.family == family and usable(each.row)]
    if len(own) < FEWEST_ROWS and len(of_family) < ROWS_PER_CONSTANT * 3:
        return None
    sample = of_family[0].row
    software = sorted({each.row.point.software for each in of_family if each.row.point.software})
    listed = {name: _software(name, chip, family, found, own, sample) for name in software}
    median = quantile((each.error for each in own), 0.5)
    needed = ROWS_PER_CONSTANT * (1 if sample.pipeline else 3)
    calibrated = len(own) >= needed and median is not None and median <= WORST_MEDIAN_PERCENT
    source = f"turnout calibrate, {date}: over all software of the family, {len(of_family)} rows"
    note = f"{len(own)} published rows" + (f", median error {median:.1f} %" if median is not None else "")
    if not calibrated:
        note += ": too few, or too far apart, to call calibrated"
    return {
        **_figures(found.constants[(family,)], of_family, source),
        "calibration": "calibrated" if calibrated else "uncalibrated",
        "calibration_note": note + " (TPOT, throughput)",
        "default_software": max(software, key=lambda name: (listed[name]["rows"], name == "api"), default=None),
        "software": listed,
    }


def _figures(known: Constants, rows: Sequence[Assessed], source: str) -> dict[str, Any]:
    values = _values(known, [each.row for each in rows])
    return {name: {"value": value, "confidence": "fitted", "source": source} for name, value in values.items()}


def _software(
    name: str, chip: str, family: str, found: Fit, own: Sequence[Assessed], sample: Prepared
) -> dict[str, Any]:
    rows = [each for each in own if each.row.point.software == name]
    known = found.constants.get((family, name, chip)) or found.constants[family, name]
    values: dict[str, Any] = _values(known, [each.row for each in rows] or [sample])
    values["rows"] = len(rows)
    if rows:
        values["median_error_percent"] = round(quantile((each.error for each in rows), 0.5) or 0.0, 1)
        values["p90_error_percent"] = round(quantile((each.error for each in rows), 0.9) or 0.0, 1)
    return values


def _values(known: Constants, rows: Sequence[Prepared]) -> dict[str, float]:
    """The constants that rows of this platform depend on."""
    values = {"layer_time_us": round(known.layer_time_us, 2)}
    if not rows[0].pipeline:
        values |= {"mfu": round(known.mfu, 4), "mbu": round(known.mbu, 4)}
        if known.moe_mfu is not None:
            values["moe_mfu"] = round(known.moe_mfu, 4)
    return values
