"""The fit finds constants it is shown the effects of, shrinks where it knows little, and never tests what it saw."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from random import Random

import pytest
import yaml

from app.calibration import fit as fitting
from app.calibration import report, store
from app.calibration.points import Point
from app.calibration.predict import Prepared, prepare
from app.config.load import shipped
from backends.datasheet import Constants
from tests.sheets import sheets

TRUE = Constants(mfu=0.62, mbu=0.8, layer_time_us=41.0, moe_mfu=0.25)
POINT = Point(
    "h100", "h100", 2, 1, "llama-3.3-70b", "fp8", "fp8", 1000, 500, "", "", 0, 0, 1, inf, "tpot", 1.0, "vllm", "", ""
)  # fmt: skip


def made(known: Constants, noise: float = 0.0, **changes: object) -> list[Prepared]:
    """Rows over batch sizes, groups and models, measured as these constants say."""
    rows, random = [], Random(1)
    for model, precision in (("llama-3.3-70b", "fp8"), ("llama-3.1-8b", "bf16"), ("gpt-oss-120b", "mxfp4")):
        for chips in (2, 4, 8):
            for clients in (1, 4, 16, 64, 256):
                for prompt in (128, 4000):
                    point = replace(
                        POINT, model=model, precision=precision, chips=chips, concurrency=clients, isl=prompt
                    )
                    row = prepare(replace(point, **changes), sheets())  # type: ignore[arg-type]
                    measured = row.predicted(known) * random.lognormvariate(0.0, noise)
                    rows.append(replace(row, point=replace(row.point, measured=measured)))
    return rows


def test_known_constants_are_recovered() -> None:
    found = fitting.minimise(made(TRUE), fitting.DEFAULT, pull=0.0)
    assert found.mfu == pytest.approx(TRUE.mfu, rel=0.02)
    assert found.mbu == pytest.approx(TRUE.mbu, rel=0.02)
    assert found.layer_time_us == pytest.approx(TRUE.layer_time_us, rel=0.03)
    assert found.moe_mfu == pytest.approx(TRUE.moe_mfu, rel=0.03)


def test_noise_and_a_few_wrong_rows_move_them_little() -> None:
    rows = made(TRUE, noise=0.1)
    wrong = [replace(row, point=replace(row.point, measured=row.point.measured * 10)) for row in rows[:6]]
    found = fitting.minimise(wrong + rows[6:], fitting.DEFAULT, pull=0.0)
    assert found.mfu == pytest.approx(TRUE.mfu, rel=0.15)
    assert found.layer_time_us == pytest.approx(TRUE.layer_time_us, rel=0.15)


def test_constants_that_no_row_depends_on_stay_where_they_are() -> None:
    dense = [row for row in made(TRUE) if not row.moe]
    assert fitting.minimise(dense, fitting.DEFAULT, pull=0.0).moe_mfu == fitting.DEFAULT.moe_mfu


def test_few_rows_stay_near_the_family_and_many_do_not() -> None:
    other = replace(TRUE, layer_time_us=100.0)
    few, many = made(other)[:2], made(other) * 4
    near = fitting.minimise(few, TRUE, fitting.PULL).layer_time_us
    far = fitting.minimise(many, TRUE, fitting.PULL).layer_time_us
    assert abs(near - 41) < abs(far - 41)
    assert far > 80


def test_an_unseen_chip_and_software_take_the_familys() -> None:
    found = fitting.fit(made(TRUE))
    cousin = prepare(replace(POINT, hw="h200", chip="h200", software="sglang"), sheets())
    assert found.of(cousin) == found.constants[("hopper",)]
    assert found.of(prepare(replace(POINT, chip="b200"), sheets())) is None


def test_nothing_is_fitted_on_a_row_it_is_tested_on() -> None:
    """A model whose rows are all ten times too slow spoils the others' fit, but not what is foretold of itself."""
    rows = [
        replace(row, point=replace(row.point, measured=row.point.measured * (10 if row.moe else 1)))
        for row in made(TRUE)
    ]
    foretold = fitting.cross_validated(rows, lambda row: row.architecture).predicted
    for row, value in zip(rows, foretold, strict=True):
        assert value is not None
        if row.moe:
            assert value < row.point.measured / 4


def test_the_shared_number_is_chosen_without_the_rows_it_is_tested_on() -> None:
    """Dense rows are measured at 0.75 us, those with experts at 0: each is foretold at the others' value."""
    versions = {value: [prepare(row.point, sheets(), value) for row in made(TRUE)] for value in (0.0, 0.75)}
    measured = [
        dense.predicted(TRUE) if not dense.moe else moe.predicted(TRUE)
        for moe, dense in zip(versions[0.0], versions[0.75], strict=True)
    ]
    grid = [
        [replace(row, point=replace(row.point, measured=value)) for row, value in zip(rows, measured, strict=True)]
        for rows in versions.values()
    ]
    found = fitting.cross_validated(grid[0], lambda row: row.moe, grid)
    assert found.chosen == {True: 1, False: 0}
    for place, value in enumerate(found.predicted):
        assert value is not None
        assert value != pytest.approx(grid[0][place].predicted(TRUE)) or not grid[0][place].moe


def test_the_report_counts_and_judges() -> None:
    _, assessed, _ = report.assess(made(TRUE, noise=0.05))
    (line,) = report.platforms(assessed)
    assert (line["chip"], line["software"], line["n"]) == ("h100", "vllm", 90)
    assert line["median_percent"] < 6
    bars = {bar["bar"]: bar for bar in report.bars(assessed)}
    assert bars["dense, h100"]["n"] == 60
    assert bars["dense, h100"]["met"]
    assert not bars["dense, b200"]["met"]
    assert bars["dense, b200"]["median_percent"] is None


def test_what_is_written_is_what_is_read_back(tmp_path: Path) -> None:
    for path in (shipped() / "substrates").glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text().split(store.MARKER)[0])
    found, assessed, _ = report.assess(made(TRUE), cross_validate=False)
    store.write(tmp_path, sheets(), found, assessed, "2026-01-02")
    first = (tmp_path / "gpu.yaml").read_text()
    fitted = yaml.safe_load(first)["fitted"]
    assert sorted(fitted) == ["h100", "h200"]  # of one family; no row of any other
    assert fitted["h100"]["software"]["vllm"]["rows"] == 90
    assert fitted["h200"]["software"]["vllm"]["rows"] == 0
    assert fitted["h200"]["calibration"] == "uncalibrated"
    assert fitted["h100"]["calibration"] == "calibrated"
    assert first.split(store.MARKER)[0] == (shipped() / "substrates" / "gpu.yaml").read_text().split(store.MARKER)[0]
    store.write(tmp_path, sheets(), found, assessed, "2026-01-02")
    assert (tmp_path / "gpu.yaml").read_text() == first
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".yaml"] == []


def test_a_fit_leaves_alone_what_it_says_nothing_about(tmp_path: Path) -> None:
    for path in (shipped() / "substrates").glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    before = {path.name: path.read_text() for path in tmp_path.glob("*.yaml")}
    found, assessed, _ = report.assess(made(TRUE), cross_validate=False)
    written = store.write(tmp_path, sheets(), found, assessed, "2026-01-02")
    assert [path.name for path in written] == ["gpu.yaml"]
    old = yaml.safe_load(before.pop("gpu.yaml"))["fitted"]
    new = yaml.safe_load((tmp_path / "gpu.yaml").read_text())["fitted"]
    assert all((tmp_path / name).read_text() == text for name, text in before.items())
    assert list(new) == list(old)
    for chip in old.keys() - {"h100"}:  # h200 is of the same family, but no row is its own
        assert new[chip] == old[chip], chip
    assert new["h100"]["software"]["vllm"]["rows"] == 90
    for software in ("mlperf", "sglang", "trtllm"):
        assert new["h100"]["software"][software] == old["h100"]["software"][software]
    assert new["h100"]["default_software"] == "trtllm"
    assert "kept from an earlier fit: mlperf, sglang, trtllm" in new["h100"]["calibration_note"]


def test_too_few_rows_to_store_delete_nothing(tmp_path: Path) -> None:
    source = (shipped() / "substrates" / "gpu.yaml").read_text()
    (tmp_path / "gpu.yaml").write_text(source)
    found, assessed, _ = report.assess(made(TRUE)[:2], cross_validate=False)
    assert store.write(tmp_path, sheets(), found, assessed, "2026-01-02") == []
    assert (tmp_path / "gpu.yaml").read_text() == source


def test_a_write_that_fails_leaves_the_datasheet_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (shipped() / "substrates" / "gpu.yaml").read_text()
    (tmp_path / "gpu.yaml").write_text(source)
    found, assessed, _ = report.assess(made(TRUE), cross_validate=False)

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("shutil.copymode", full)
    with pytest.raises(OSError, match="disk full"):
        store.write(tmp_path, sheets(), found, assessed, "2026-01-02")
    assert (tmp_path / "gpu.yaml").read_text() == source
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.yaml"]


def test_one_row_is_said_in_the_singular(tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text((shipped() / "substrates" / "gpu.yaml").read_text().split(store.MARKER)[0])
    rows = made(TRUE)[:12] + made(TRUE, chip="h200")[:1]
    found, assessed, _ = report.assess(rows, cross_validate=False)
    store.write(tmp_path, sheets(), found, assessed, "2026-01-02")
    fitted = yaml.safe_load((tmp_path / "gpu.yaml").read_text())["fitted"]
    assert fitted["h200"]["calibration_note"].startswith("1 published row,")
