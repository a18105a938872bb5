"""`turnout calibrate` as a command, and the shipped constants against the real points where they are at hand."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.calibration import report
from app.calibration.points import UnreadableRow, read_all
from app.calibration.predict import prepare, stored_constants
from app.cli import main
from tests.sheets import sheets

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SHARED = [DATA / "calibration_points.csv", DATA / "calibration_silicon.csv"]
needs_data = pytest.mark.skipif(not all(path.is_file() for path in SHARED), reason=f"no measured points in {DATA}")

ROWS = """hw,tp,model,backend,precision,isl,osl,concurrency,inferencex,ttft_ms,tpot_ms
h100,1,llama-3.1-8b,trtllm,fp8,1000,500,1,0,19,5.0
h100,1,llama-3.1-8b,trtllm,fp8,1000,500,16,0,90,7.0
h1000,1,llama-3.1-8b,trtllm,fp8,1000,500,16,0,90,7.0
h100,2,llama-3.1-8b,trtllm,fp8,2000,500,64,0,90,9.0
"""


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["calibrate", *map(str, arguments)])


def test_check_predicts_with_what_is_stored(points: Path) -> None:
    result = run("--check", points, "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert [sorted(row) for row in said["rows"]] == [
        ["concurrency", "hw", "isl", "measured", "metric", "model", "osl", "precision", "predicted"]
    ] * 4
    assert [(row["metric"], row["concurrency"]) for row in said["rows"]] == [
        ("tpot", 1), ("ttft", 1), ("tpot", 16), ("tpot", 64),
    ]  # fmt: skip
    assert "did you mean 'h100'" in said["skipped"][0]["reason"]
    shown = run("--check", points)
    assert shown.exit_code == 0
    assert "skipped: line 4" in shown.stderr
    assert "llama-3.1-8b" in shown.stdout


def test_fitting_reports_and_draws(points: Path, tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    drawing = ["--plot", picture] if find_spec("matplotlib") else []
    result = run("--points", points, "--json", *drawing)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["platforms"][0]["n"] == 3
    assert {"bar", "n", "median_percent", "median_at_most", "met"} <= said["bars"][0].keys()
    if drawing:
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert sum(said["lane_layer_us_chosen"]["kfold"].values()) == 3  # one choice a training part
    assert "settled with all points in view" in said["not_blind"]
    printed = run("--points", points).stdout
    assert "trtllm" in printed
    assert "settled with all points in view" in printed
    assert "lane_layer_us chosen by the training parts of unseen" in printed


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--check", "{rows}", "--write"], 2, "do not go with it"),
        (["--check", "nowhere.csv"], 2, "does not exist"),
        (["--points", "{odd}"], 1, "needs the columns"),
        (["--points", "{empty}"], 1, "no row to fit to"),
        (["--points", "{rows}", "--plot", "{rows}.xyz"], 1, "xyz"),
    ],
)
def test_misuse_is_said(points: Path, tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text(ROWS.splitlines()[0] + "\n")
    places = {"rows": points, "odd": tmp_path / "odd.csv", "empty": tmp_path / "empty.csv"}
    result = run(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == code
    assert says in result.output


@needs_data
def test_the_shipped_constants_do_as_well_as_the_datasheets_claim() -> None:
    errors: dict[tuple[str, str], list[float]] = {}
    for point in read_all(SHARED, sheets())[0]:
        if point.metric == "ttft":
            continue
        try:
            row = prepare(point, sheets())
        except UnreadableRow:
            continue
        predicted = row.predicted(stored_constants(sheets().chip(point.chip), point.software))
        key = (point.chip, point.software)
        errors.setdefault(key, []).append(report.error_percent(predicted, point.measured))
    claimed = 0
    for name, chip in sheets().chips.items():
        for software, fitted in chip.software.items():
            found = errors.get((name, software), [])
            assert len(found) == fitted.rows, (name, software)
            if found:
                claimed += 1
                assert report.quantile(found, 0.5) == pytest.approx(fitted.median_error_percent, abs=0.3)
                assert report.quantile(found, 0.9) == pytest.approx(fitted.p90_error_percent, abs=1.0)
    assert claimed >= 15


@needs_data
def test_the_bars_stand_with_the_shipped_constants() -> None:
    """Dense: median 11 %, p90 33 % pooled; 15 % and 40 % on each chip. Constants as shipped, nothing fitted here."""
    errors: dict[str, list[float]] = {chip: [] for chip in report.POOLED}
    for point in read_all(SHARED, sheets())[0]:
        if point.chip in errors and point.metric != "ttft" and sheets().model(point.model).moe is None:
            known = stored_constants(sheets().chip(point.chip), point.software)
            errors[point.chip].append(report.error_percent(prepare(point, sheets()).predicted(known), point.measured))
    pooled = [error for found in errors.values() for error in found]
    assert report.quantile(pooled, 0.5) <= 11  # type: ignore[operator]
    assert report.quantile(pooled, 0.9) <= 33  # type: ignore[operator]
    for chip, found in errors.items():
        assert report.quantile(found, 0.5) <= 15, chip  # type: ignore[operator]
        assert report.quantile(found, 0.9) <= 40, chip  # type: ignore[operator]


RUNS = DATA / "vllm_measured"


@pytest.mark.skipif(not RUNS.is_dir(), reason=f"no recorded runs in {RUNS}")
def test_recorded_servers_queue_as_the_engine_does() -> None:
    """Fitted on the first 100 requests of a run, the others come out within a fifth, part by part."""
    result = run("--runs", RUNS, "--json")
    assert result.exit_code == 0
    runs = json.loads(result.stdout)["runs"]
    assert {each["run"] for each in runs} == {"RTX4090_Llama-3.1-8B", "RTXPRO6000_Qwen3-32B"}
    for each in runs:
        assert set(each["errors_percent"]) == {"ttft", "queue", "service", "tpot", "makespan"}
        assert all(abs(error) < 20 for error in each["errors_percent"].values()), each
    told = run("--runs", RUNS / "RTX4090_Llama-3.1-8B")
    assert told.exit_code == 0
    assert "held out" in told.stdout


def test_runs_that_are_none_are_said(tmp_path: Path, points: Path) -> None:
    nothing = run("--runs", tmp_path / "..", "--check", points)
    assert nothing.exit_code == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = run("--runs", empty)
    assert refused.exit_code == 1
    assert "no recorded run" in refused.stderr
    for broken in (b"not gzip", gzip.compress(b"{}")[:12], gzip.compress(b"{}")[:10] + b"garbage"):
        (empty / "requests.jsonl.gz").write_bytes(broken)
        (empty / "meta.json.gz").write_bytes(broken)
        refused = run("--runs", empty)
        assert (refused.exit_code, "not a recorded run" in refused.stderr) == (1, True), broken


def test_a_run_too_short_to_judge_by_is_said(tmp_path: Path) -> None:
    moments = {"queued_ts": 1.0, "scheduled_ts": 1.0, "first_token_ts": 2.0, "last_token_ts": 3.0}
    line = json.dumps({"input_toks": 10, "output_toks": 10, **moments})
    meta = {"model": "a/llama-3.1-8b", "engine_kwargs": {"dtype": "bf16", "max_num_seqs": 8}}
    meta["engine_kwargs"]["max_num_batched_tokens"] = 2048  # type: ignore[index]
    (tmp_path / "meta.json.gz").write_bytes(gzip.compress(json.dumps(meta).encode()))
    (tmp_path / "requests.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    instance = {"hardware": "RTX4090", "tp_size": 1}
    (tmp_path / "sim_config.json").write_text(json.dumps({"nodes": [{"instances": [instance]}]}))
    result = run("--runs", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "a run of 1: the first 100" in result.stderr


def test_check_of_nothing_fails_and_a_spreadsheets_mark_does_not(tmp_path: Path, points: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text(ROWS.splitlines()[0] + "\n")
    refused = run("--check", empty, "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout) == {"rows": [], "skipped": []}
    assert "no row could be predicted" in refused.stderr
    marked = tmp_path / "marked.csv"
    marked.write_bytes(b"\xef\xbb\xbf" + points.read_bytes())
    rows = json.loads(run("--check", marked, "--json").stdout)["rows"]
    assert [(row["isl"], row["concurrency"]) for row in rows] == [(1000, 1), (1000, 1), (1000, 16), (2000, 64)]
    assert all(isinstance(row["isl"], int) for row in rows)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    said = run("--check", binary)
    assert said.exit_code == 1
    assert "binary.csv: not UTF-8 text" in said.stderr
