"""Reading measured points: both shapes, what is assumed, and rows that are odd."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.calibration.points import Point, Skipped, UnreadableRow, read, read_all
from app.calibration.predict import prepare, stored_constants
from tests.sheets import sheets

PUBLISHED = (
    "hw,chips,tp,replicas,model,precision,kv,isl,osl,concurrency,maxb,metric,value,framework,source,note,confidence"
)
SILICON = "id,hw,tp,model,backend,precision,isl,osl,concurrency,inferencex,ttft_ms,tpot_ms"


def published(tmp_path: Path, *rows: str) -> tuple[list[Point], list[Skipped]]:
    return load(tmp_path, PUBLISHED, *rows)


def silicon(tmp_path: Path, *rows: str) -> tuple[list[Point], list[Skipped]]:
    return load(tmp_path, SILICON, *rows)


def load(tmp_path: Path, *lines: str) -> tuple[list[Point], list[Skipped]]:
    path = tmp_path / "points.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read(path, sheets())


def predicted(point: Point) -> float:
    chip = sheets().chip(point.chip)
    return prepare(point, sheets()).predicted(stored_constants(chip, point.software))


def test_a_published_row(tmp_path: Path) -> None:
    (point,), skipped = published(
        tmp_path, "h200,8,2,4,llama-3.3-70b,fp8,fp8,1000,500,max,512,tput,9000,nim-trtllm,a page 2025,,published"
    )
    assert not skipped
    assert (point.chip, point.chips, point.replicas, point.software) == ("h200", 2, 4, "trtllm")
    assert (point.concurrency, point.max_batch, point.measured) == (inf, 512, 9000)


def test_replicas_multiply_and_per_gpu_divides(tmp_path: Path) -> None:
    row = "h100,8,2,{replicas},llama-3.3-70b,fp8,fp8,1000,500,max,,tput,1,trtllm,page,{note},published"
    notes = [(1, ""), (4, ""), (4, "tok/s per GPU")]
    points, _ = published(tmp_path, *(row.format(replicas=n, note=note) for n, note in notes))
    one, four, per_gpu = map(predicted, points)
    assert four == pytest.approx(4 * one)
    assert per_gpu == pytest.approx(four / 8)


def test_a_total_counts_prompts_too(tmp_path: Path) -> None:
    row = "h100,2,2,1,llama-3.3-70b,fp8,fp8,1500,500,16,,{metric},1,trtllm,page,,published"
    points, _ = published(tmp_path, row.format(metric="tput"), row.format(metric="tput_total"))
    out, total = map(predicted, points)
    assert total == pytest.approx(4 * out)


def test_a_silicon_row_becomes_a_pace_and_alone_a_first_token_too(tmp_path: Path) -> None:
    points, skipped = silicon(
        tmp_path,
        "run_1,h100,2,llama-3.1-8b,trtllm,,2000,500,1,0,30,5.5",
        "run_2,h100,2,llama-3.1-8b,vllm,fp8,1024,1024,8,1,90,7.5",
    )
    assert not skipped
    assert [(point.metric, point.precision, point.kv) for point in points] == [
        ("tpot", "bf16", "bf16"),
        ("ttft", "bf16", "bf16"),
        ("tpot", "fp8", "fp8"),
    ]
    assert points[2].isl == pytest.approx(921.6)
    assert points[2].shown_isl == 1024


@pytest.mark.parametrize(
    ("name", "column", "chips"),
    [("x_tp4_ep4_995", 16, 4), ("x_tp8_0_ep8_0_1239", 8, 8), ("x_tp2_epnone_1", 2, 2), ("nothing", 4, 4)],
)
def test_expert_parallel_ranks_are_not_counted_twice(tmp_path: Path, name: str, column: int, chips: int) -> None:
    points, _ = silicon(tmp_path, f"{name},h200,{column},gpt-oss-120b,trtllm,fp4,1024,1024,16,1,99,8")
    assert [(point.chips, point.precision, point.kv) for point in points] == [(chips, "mxfp4", "bf16")]


def test_eras_of_a_provider_and_speculation(tmp_path: Path) -> None:
    row = "groqchip1,576,576,1,llama-3.3-70b,fp8,fp8,1000,500,1,,speed,280,api,{source},{note},secondary"
    points, skipped = published(
        tmp_path,
        row.format(source="a review 2024-02", note=""),
        row.format(source="docs of 2026", note=""),
        row.format(source="docs", note=""),
        row.format(source="post of Nov 2024: base 250 (1665 with spec decode)", note=""),
        row.format(source="a price table", note="spec decode"),
    )
    assert [point.software for point in points] == ["api-2024", "api", "api", "api-2024"]
    assert "speculative" in skipped[0].reason


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("h10,1,1,1,llama-3.1-8b,fp8,fp8,100,100,1,,tpot,5,trtllm,p,,c", "did you mean 'h100'"),
        ("h100,1,1,1,llama-3.1-8,fp8,fp8,100,100,1,,tpot,5,trtllm,p,,c", "did you mean 'llama-3.1-8b'"),
        ("h100,1,1,1,llama-3.1-8b,fp8,fp8,100,100,?,,tpot,5,trtllm,p,,c", "concurrency is '?'"),
        ("h100,1,1,1,llama-3.1-8b,fp8,fp8,,100,1,,tpot,5,trtllm,p,,c", "isl is ''"),
        ("h100,1,1,1,llama-3.1-8b,fp8,fp8,1e300,100,1,,ttft,5,trtllm,p,,c", "no model reads"),
        ("h100,1,0.5,1,llama-3.1-8b,fp8,fp8,100,100,1,,tpot,5,trtllm,p,,c", "tp is 0.5"),
        ("h100,1,1,1,llama-3.1-8b,fp8,fp3,100,100,1,,tpot,5,trtllm,p,,c", "KV precision 'fp3'"),
        ("h100,1,1,1,llama-3.1-8b,fp8,fp8,100,100,8,,ttft,5,trtllm,p,,c", "under load"),
        ("h100,1,1,1,llama-3.1-8b,fp8,fp8,100,100,max,,tput_slo,5,mlperf,p,,c", "latency limit"),
        ("h100,1,1,1,llama-3.1-8b,fp8,fp8,100,100,1,,joules,5,trtllm,p,,c", "metric 'joules'"),
        ("h100,1,1,1,llama-3.1-8b,fp8,fp8,100,100,1,,tpot,nan,trtllm,p,,c", "value is 'nan'"),
        ("h100", "metric ''"),
    ],
)
def test_an_odd_row_is_skipped_with_its_reason(tmp_path: Path, row: str, says: str) -> None:
    points, skipped = published(tmp_path, row)
    assert not points
    assert says in skipped[0].reason


@pytest.mark.parametrize(
    ("precision", "model", "says"),
    [
        ("fp4", "llama-3.1-8b", "states no fp4 rate"),
        ("int3", "llama-3.1-8b", "int3"),
        ("fp8", "llama-3.1-405b", "too little"),
    ],
)
def test_what_the_chip_cannot_do_is_said(tmp_path: Path, precision: str, model: str, says: str) -> None:
    (point,), _ = published(tmp_path, f"h100,1,1,1,{model},{precision},fp8,100,100,1,,tpot,5,trtllm,p,,c")
    with pytest.raises(UnreadableRow, match=says):
        prepare(point, sheets())


def test_a_file_of_neither_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRow, match="needs the columns"):
        load(tmp_path, "a,b", "1,2")
    with pytest.raises(OSError, match="nowhere"):
        read_all([tmp_path / "nowhere.csv"], sheets())


CELLS = st.sampled_from(
    ["", "h100", "wse3", "trn1", "llama-3.1-8b", "gpt-oss-20b", "fp8", "bf16", "max", "?", "-1", "0", "1", "8", "1e9",
     "tpot", "tput", "ttft", "speed", "tput_total", "vllm", "api", "nan", "inf", "ü", "spec", "per GPU"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.lists(CELLS, max_size=18), max_size=6), header=st.sampled_from([PUBLISHED, SILICON]))
def test_no_row_whatever_brings_the_check_down(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], header: str
) -> None:
    points, skipped = load(tmp_path_factory.mktemp("odd"), header, *(",".join(row) for row in rows))
    for point in points:
        try:
            assert predicted(point) > 0
        except UnreadableRow:
            continue
    assert all(each.reason for each in skipped)
