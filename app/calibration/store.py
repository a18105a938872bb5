"""Fitted constants as the last section of the datasheets in config/substrates, for `turnout calibrate --write`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
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
WORST_MEDIAN_PERCENT = 20.0


def write(folder: Path, sheets: Datasheets, found: Fit, assessed: Sequence[Assessed], date: str) -> list[Path]:
    """Renews the last section of the datasheet files under `folder`; says which files changed.

    What the fit says nothing about stays as it stands: chips, and software of a chip, without a row in `assessed`.
    A file is replaced in one step: it is never seen half-written.

    Raises: OSError.
    """
    written = []
    for path in sorted(folder.glob("*.yaml")):
        before = path.read_text(encoding="utf-8")
        above = before.split(MARKER)[0]
        everything = yaml.safe_load(before)
        stored: Mapping[str, Any] = everything.get("fitted") or {}
        sections = {
            chip: section
            for chip in everything["chips"]
            if (section := _renewed(stored.get(chip), _section(chip, sheets, found, assessed, date)))
        }
        text = above
        if sections:
            dumped = yaml.safe_dump({"fitted": sections}, sort_keys=False, width=118, allow_unicode=True)
            text = above.rstrip("\n") + "\n" + MARKER + dumped
        if text != before:
            _replace(path, text)
            written.append(path)
    return written


def _replace(path: Path, text: str) -> None:
    """Through a temporary file beside it, which is gone afterwards either way."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        shutil.copymode(path, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _renewed(stored: Mapping[str, Any] | None, made: dict[str, Any] | None) -> Mapping[str, Any] | None:
    """A chip's section after a fit: the stored one stands where it has rows of its own and the fit has none."""
    if stored is None or made is None:
        return made or stored
    known: Mapping[str, Any] = stored["software"]
    fresh: dict[str, Any] = made["software"]
    if not _rows(fresh) and _rows(known):
        return stored
    kept = {
        name: entry for name, entry in known.items() if name not in fresh or (entry["rows"] and not fresh[name]["rows"])
    }
    if not kept:
        return made
    listed = dict(sorted({**fresh, **kept}.items()))
    note = f"{made['calibration_note']}; kept from an earlier fit: {', '.join(sorted(kept))}"
    return made | {"calibration_note": note, "default_software": _most_rows(listed), "software": listed}


def _rows(listed: Mapping[str, Any]) -> int:
    return sum(entry["rows"] for entry in listed.values())


def _most_rows(listed: Mapping[str, Any]) -> str | None:
    return max(sorted(listed), key=lambda name: (listed[name]["rows"], name == "api"), default=None)


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
    source = f"turnout calibrate, {date}: over all software of the family, {_counted(of_family, '')}"
    note = _counted(own, "published ") + (f", median error {median:.1f} %" if median is not None else "")
    if not calibrated:
        note += ": too few, or too far apart, to call calibrated"
    return {
        **_figures(found.constants[(family,)], of_family, source),
        "calibration": "calibrated" if calibrated else "uncalibrated",
        "calibration_note": note + " (TPOT, throughput)",
        "default_software": _most_rows(listed),
        "software": listed,
    }


def _counted(rows: Sequence[Assessed], which: str) -> str:
    return f"{len(rows)} {which}{'row' if len(rows) == 1 else 'rows'}"


def _figures(known: Constants, rows: Sequence[Assessed], source: str) -> dict[str, Any]:
    values = _values(known, [each.row for each in rows])
    figures = {name: {"value": value, "confidence": "fitted", "source": source} for name, value in values.items()}
    if "moe_mfu" in figures and not any(each.row.moe for each in rows):
        figures["moe_mfu"] |= {"confidence": "assumed", "source": "default: no published row of a model with experts"}
    return figures


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
