"""Measured points from CSV, in either of two shapes, as values the prediction understands.

`points`: a published figure a row (hw, chips, tp, replicas, model, precision, kv, isl, osl, concurrency, maxb, metric,
value, framework, source, note, confidence). `silicon`: a benchmark run a row, with ttft_ms and tpot_ms (hw, tp, model,
backend, precision, isl, osl, concurrency, inferencex). A row that cannot be read is skipped with its reason.

What the sources do not state is assumed here, in one place:
- blank precision is BF16; a model published in less than that (gpt-oss: MXFP4) is served in what it is published in;
- KV is FP8 for low-precision weights under TensorRT-LLM, and under vLLM in InferenceX runs (their queueing at 64
  clients on one H200 needs room that BF16 KV does not leave); for MXFP4 models FP8 on chips with FP4, else BF16;
- InferenceX draws lengths uniformly between 0.8 and 1.0 of the nominal ones: 0.9 on average;
- an id with `_tpN_..epM` ran on N chips: the `tp` column holds N x M there, but its times are those of N chips.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

from backends.datasheet import KV_BYTES, Datasheets
from backends.errors import UnknownFigure

CHIPS = {"trn1": "trainium1", "trn2": "trainium2", "trn3": "trainium3", "ironwood": "tpu7x", "trillium": "tpu_v6e"}
MODELS = {"deepseek-r1": "deepseek-v3", "deepseek-v3.1": "deepseek-v3"}
"""Other names of the same architecture."""

LONGEST_TOKENS = 10_000_000
SOFTWARE = {"nim-trtllm": "trtllm", "vllm-tpu": "vllm", "nxdi": "neuron", "inferencex": ""}
INFERENCEX_LENGTH = 0.9
PREDICTED = ("tput", "tput_total", "tpot", "ttft", "speed")
SPLIT = re.compile(r"_tp(\d+)_(?:\d+_)?ep(\d+)")


@dataclass(frozen=True, slots=True)
class Point:
    """One measured figure.

    `chips` are those of one replica; `measured` is in the metric's own unit (tput and tput_total tokens/s of all
    replicas, tpot and ttft ms, speed tokens/s of one user). `model`, `precision`, `isl` and `osl` are those predicted
    with, `shown_*` those in the file. `software` is "" where it is not known, for an API speed its provider's era.
    `concurrency` is that of all replicas; infinite = saturated.
    """

    hw: str
    chip: str
    chips: int
    replicas: int
    model: str
    precision: str
    kv: str
    isl: float
    osl: float
    shown_model: str
    shown_precision: str
    shown_isl: float
    shown_osl: float
    concurrency: float
    max_batch: float
    metric: str
    measured: float
    software: str
    origin: str
    note: str
    per_chip: bool = False


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that no figure is predicted for, with the reason."""

    row: str
    reason: str


class UnreadableRow(ValueError):
    """A row that cannot be understood; says why."""


def read(path: Path, sheets: Datasheets) -> tuple[list[Point], list[Skipped]]:
    """Every point of a CSV file of either shape.

    Raises: OSError; UnreadableRow if it is not text or its columns are of neither shape.
    """
    try:
        return _read(path, sheets)
    except UnicodeDecodeError:
        raise UnreadableRow(f"{path}: not UTF-8 text") from None


def _read(path: Path, sheets: Datasheets) -> tuple[list[Point], list[Skipped]]:
    points: list[Point] = []
    skipped: list[Skipped] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = set(rows.fieldnames or ())
        if not {"hw", "model"} <= columns or not ({"metric", "value"} <= columns or columns & {"tpot_ms", "ttft_ms"}):
            raise UnreadableRow(f"{path}: needs the columns hw, model and either metric and value or tpot_ms")
        parse = _published if "metric" in columns else _silicon
        for number, raw in enumerate(rows, start=2):
            row = {key: value.strip() for key, value in raw.items() if key and isinstance(value, str)}
            shown = f"line {number}: " + " ".join(row.get(key, "") for key in ("hw", "model", "metric"))
            try:
                points += parse(row, sheets)
            except UnreadableRow as error:
                skipped.append(Skipped(shown.strip(), str(error)))
    return points, skipped


def read_all(paths: Iterable[Path], sheets: Datasheets) -> tuple[list[Point], list[Skipped]]:
    """`read` over several files."""
    points: list[Point] = []
    skipped: list[Skipped] = []
    for path in paths:
        found, left = read(path, sheets)
        points += found
        skipped += left
    return points, skipped


def _published(row: Mapping[str, str], sheets: Datasheets) -> Iterator[Point]:
    metric = row.get("metric", "")
    note = f"{row.get('note', '')} | {row.get('source', '')}"
    _check_predictable(metric, row, note)
    chip, model, precision = _names(row, sheets)
    framework = row.get("framework", "")
    chips = _count(row, "tp", default=_number(row, "chips", default=1.0))
    yield Point(
        hw=row["hw"],
        chip=chip,
        chips=chips,
        replicas=_count(row, "replicas", default=1.0),
        model=model,
        precision=precision,
        kv=_stated_kv(row),
        isl=_tokens(row, "isl"),
        osl=_tokens(row, "osl"),
        shown_model=row["model"],
        shown_precision=row.get("precision") or precision,
        shown_isl=_tokens(row, "isl"),
        shown_osl=_tokens(row, "osl"),
        concurrency=_concurrency(row),
        max_batch=_number(row, "maxb", default=inf),
        metric=metric,
        measured=_number(row, "value"),
        software=_era(note) if metric == "speed" else SOFTWARE.get(framework, framework),
        origin=f"pub:{framework}",
        note=note,
        per_chip=bool(re.search(r"per[ -]?(gpu|chip)|/gpu", row.get("note", ""), re.IGNORECASE)),
    )


def _check_predictable(metric: str, row: Mapping[str, str], note: str) -> None:
    if metric not in PREDICTED:
        known = "a throughput under a latency limit that the row does not state" if metric == "tput_slo" else "unknown"
        raise UnreadableRow(f"metric '{metric}': {known}")
    if "interpolated" in note or "TP not shown" in note or "chips per replica not shown" in note:
        raise UnreadableRow("interpolated, or the chips per replica are not shown")
    if metric == "ttft" and row.get("concurrency") not in ("1", "1.0"):
        raise UnreadableRow("time to first token under load is the queue's doing: only concurrency 1 is predicted")
    if metric == "speed" and re.search("spec", note) and not re.search("no spec|base", note):
        raise UnreadableRow("with speculative decoding, or possibly so")


def _silicon(row: Mapping[str, str], sheets: Datasheets) -> Iterator[Point]:
    chip, model, precision = _names(row, sheets)
    backend, inferencex = row.get("backend", ""), row.get("inferencex", "") in ("1", "1.0", "true", "True")
    scale = INFERENCEX_LENGTH if inferencex else 1.0
    split = SPLIT.search(row.get("id", ""))
    concurrency = _concurrency(row)
    isl, osl = _tokens(row, "isl"), _tokens(row, "osl")
    metrics = [name for name in ("tpot", "ttft") if row.get(f"{name}_ms")]
    for metric in metrics:
        if metric == "ttft" and concurrency != 1:
            continue
        yield Point(
            hw=row["hw"],
            chip=chip,
            chips=int(split.group(1)) if split else _count(row, "tp", default=1.0),
            replicas=1,
            model=model,
            precision=precision,
            kv=_kv_precision(precision, backend, inferencex, chip, sheets),
            isl=isl * scale,
            osl=osl * scale,
            shown_model=row["model"],
            shown_precision=row.get("precision") or precision,
            shown_isl=isl,
            shown_osl=osl,
            concurrency=concurrency,
            max_batch=inf,
            metric=metric,
            measured=_number(row, f"{metric}_ms"),
            software=SOFTWARE.get(backend, backend),
            origin=("ix:" if inferencex else "nv:") + backend,
            note=row.get("id", ""),
        )


def _names(row: Mapping[str, str], sheets: Datasheets) -> tuple[str, str, str]:
    hw = row.get("hw", "").lower()
    hw = hw.removesuffix("_sxm").removesuffix("-sxm")
    chip = CHIPS.get(hw, hw.replace("-", "_"))
    model = row.get("model", "").lower()
    model = MODELS.get(model, model)
    try:
        sheets.chip(chip)
        native = sheets.model(model).native_precision
    except UnknownFigure as error:
        raise UnreadableRow(str(error)) from None
    stated = row.get("precision", "").lower()
    precision = {"": native or "bf16", "fp16": "bf16", "nvfp4": "fp4"}.get(stated, stated)
    if native == "mxfp4":
        precision = native
    return chip, model, precision


def _kv_precision(precision: str, backend: str, inferencex: bool, chip: str, sheets: Datasheets) -> str:
    if precision == "mxfp4":
        return "fp8" if sheets.chip(chip).fp4_tflops.value is not None else "bf16"
    if precision == "bf16":
        return "bf16"
    return "fp8" if backend == "trtllm" or (backend == "vllm" and inferencex) else "bf16"


def _concurrency(row: Mapping[str, str]) -> float:
    text = row.get("concurrency", "")
    if text == "max":
        return inf
    return _number(row, "concurrency")


def _stated_kv(row: Mapping[str, str]) -> str:
    kv = row.get("kv") or "bf16"
    if kv not in KV_BYTES:
        raise UnreadableRow(f"KV precision '{kv}' is not one of {', '.join(KV_BYTES)}")
    return kv


def _tokens(row: Mapping[str, str], column: str) -> float:
    tokens = _number(row, column)
    if tokens > LONGEST_TOKENS:
        raise UnreadableRow(f"{column} is {tokens:g} tokens: no model reads or writes that much")
    return tokens


def _count(row: Mapping[str, str], column: str, default: float) -> int:
    value = _number(row, column, default)
    if value < 1 or value != int(value) or value > 1e6:
        raise UnreadableRow(f"{column} is {value:g}, not a number of chips or replicas")
    return int(value)


def _era(note: str) -> str:
    """A provider's own software by the year its speed is dated: `api-2024` up to then, `api` since (or undated)."""
    years = re.findall(r"20[12]\d", note)
    return "api-2024" if years and max(years) <= "2024" else "api"


def _number(row: Mapping[str, str], column: str, default: float | None = None) -> float:
    text = row.get(column, "")
    if not text and default is not None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not isfinite(value) or value <= 0:
        raise UnreadableRow(f"{column} is '{text}', not a positive number")
    return value
