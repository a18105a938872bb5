"""Does the engine queue as a real server does? Recorded vLLM runs, replayed request by request in virtual time.

A run says of every request when it was queued, scheduled, made its first and last token. The engine gets the same
arrivals and lengths, the run's own KV blocks and batch limits, and three constants (MFU, MBU, time per layer) fitted on
the first `FIT_REQUESTS` requests alone; the others are then predicted. Under overload TTFT is mostly queueing, so both
parts are compared apart: waiting for a slot, and service from the slot to the first token.

Runs are folders as in casys-kaist/LLMServingSim: meta.json.gz, requests.jsonl.gz, sim_config.json.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import isfinite, log, sqrt
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from app.errors import CalibrationError
from backends.datasheet import ChipSheet, Datasheets, Figure
from backends.emulator.engine import Engine
from backends.emulator.roofline import Physics, physics
from backends.emulator.traits import Traits
from backends.registry import traits as traits_of
from backends.types import DeploymentSpec

REQUESTS = "requests.jsonl.gz"
FIT_REQUESTS = 100
FITTED_ON = ("ttft", "service", "tpot")
START = (0.6, 0.85, 25.0)
LIMITS = ((0.05, 1.0), (0.05, 1.0), (0.5, 500.0))
FIRST_RATIO, LAST_RATIO = 1.5, 1.04


class Times(NamedTuple):
    """One request's history, in seconds from the start of its run."""

    queued_s: float
    scheduled_s: float
    first_token_s: float
    last_token_s: float


class Recorded(NamedTuple):
    """A request of a run: its size, and what became of it."""

    prompt_tokens: int
    completion_tokens: int
    times: Times


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded run of one server. `kv_tokens` None means that the record does not say, and memory decides."""

    name: str
    chip: str
    chips: int
    model: str
    precision: str
    max_sequences: int
    batch_tokens: int
    kv_tokens: int | None
    requests: tuple[Recorded, ...]


class Summary(NamedTuple):
    """Means over some requests of a run, in seconds; `makespan` is until the last of them ends."""

    ttft: float
    queue: float
    service: float
    tpot: float
    makespan: float


class Validation(NamedTuple):
    """How a run was predicted: constants fitted on the first requests, and both halves measured and predicted."""

    run: Run
    constants: tuple[float, float, float]
    fitted: tuple[Summary, Summary]
    held_out: tuple[Summary, Summary]
    preemptions: int

    def errors_percent(self) -> dict[str, float]:
        """How far off the held-out requests were predicted, part by part; positive = too slow."""
        measured, predicted = self.held_out
        pairs = zip(Summary._fields, measured, predicted, strict=True)
        return {name: 100 * (guess / real - 1) for name, real, guess in pairs}


def runs_in(folder: Path) -> list[Path]:
    """The folder itself if it is a recorded run, else those in it that are.

    Raises: CalibrationError if there is none.
    """
    found = [each for each in (folder, *sorted(folder.iterdir())) if (each / REQUESTS).is_file()]
    if not found:
        raise CalibrationError(f"{folder}: no recorded run (a folder with {REQUESTS}) here")
    return found


def load_run(folder: Path, sheets: Datasheets) -> Run:
    """A run from its folder.

    Raises: CalibrationError when a file is missing or not of this form, or names no known chip or model.
    """
    try:
        meta = json.loads(gzip.decompress((folder / "meta.json.gz").read_bytes()))
        lines = gzip.decompress((folder / REQUESTS).read_bytes()).splitlines()
        instance = json.loads((folder / "sim_config.json").read_text())["nodes"][0]["instances"][0]
        requests = _requests([json.loads(line) for line in lines])
        engine = meta["engine_kwargs"]
        kv_tokens = (meta["kv_cache"] or {}).get("num_kv_tokens") if "kv_cache" in meta else None
        return Run(
            name=folder.name,
            chip=_named(sheets.chips, str(instance["hardware"])),
            chips=int(instance["tp_size"]),
            model=_named(sheets.models, str(meta["model"]).rpartition("/")[2]),
            precision={"bfloat16": "bf16"}.get(engine["dtype"], str(engine["dtype"])),
            max_sequences=int(engine["max_num_seqs"]),
            batch_tokens=int(engine["max_num_batched_tokens"]),
            kv_tokens=None if kv_tokens is None else int(kv_tokens),
            requests=requests,
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, zlib.error) as error:
        raise CalibrationError(f"{folder}: not a recorded run: {type(error).__name__}: {error}") from error


def validate(run: Run, sheets: Datasheets) -> Validation:
    """Fit on the first requests of a run, predict the others.

    Raises: CalibrationError for a run that nothing can be learnt from or that the engine cannot hold; UnknownFigure,
    DoesNotFit when its deployment cannot be.
    """
    _check(run)
    traits = traits_of(sheets.chip(run.chip).substrate)
    assert traits is not None, "every chip belongs to an emulated kind"
    constants = fit(run, sheets, traits)
    predicted, preemptions = play(run, run_physics(run, sheets, traits, constants), traits)
    measured = [request.times for request in run.requests]
    halves = [
        (_summary(run, measured, part), _summary(run, predicted, part))
        for part in (slice(0, FIT_REQUESTS), slice(FIT_REQUESTS, None))
    ]
    return Validation(run, constants, halves[0], halves[1], preemptions)


def _check(run: Run) -> None:
    """Raises: CalibrationError, saying why the run cannot be fitted on and judged by."""
    if len(run.requests) <= FIT_REQUESTS:
        raise CalibrationError(
            f"{run.name}: a run of {len(run.requests)}: the first {FIT_REQUESTS} requests are fitted on, "
            "none is left to predict"
        )
    if min(run.max_sequences, run.batch_tokens, run.chips, 1 if run.kv_tokens is None else run.kv_tokens) < 1:
        raise CalibrationError(
            f"{run.name}: chips, max_num_seqs, max_num_batched_tokens and KV tokens must be positive"
        )
    for place, request in enumerate(run.requests, start=1):
        if min(request.prompt_tokens, request.completion_tokens) < 1 or not all(map(isfinite, request.times)):
            raise CalibrationError(f"{run.name}: request {place}: its tokens must be positive and its times finite")
    measured = [request.times for request in run.requests]
    for said, part in (("first", slice(0, FIT_REQUESTS)), ("other", slice(FIT_REQUESTS, None))):
        if all(request.completion_tokens == 1 for request in run.requests[part]):
            raise CalibrationError(f"{run.name}: no answer among the {said} requests has a second token to time")
        summary = _summary(run, measured, part)._asdict()
        needed = FITTED_ON if said == "first" else Summary._fields
        if short := [name for name in needed if summary[name] <= 0]:
            raise CalibrationError(
                f"{run.name}: the {said} requests have no duration to compare with: {', '.join(short)} is "
                f"{summary[short[0]]:g} s on average"
            )


def told(found: Validation) -> str:
    """A validation as a table: the seconds measured and predicted, and the error of those not fitted on."""
    run, (mfu, mbu, layer_us) = found.run, found.constants
    lines = [
        f"{run.name}: {run.model} {run.precision} on {run.chips} x {run.chip}, {len(run.requests)} requests",
        f"fitted on the first {FIT_REQUESTS}: MFU {mfu:.2f}, MBU {mbu:.2f}, {layer_us:.0f} us a layer; "
        f"{found.preemptions} preemptions",
        f"{'seconds':<10} {'fitted on':>10} {'predicted':>10} {'held out':>10} {'predicted':>10} {'error %':>8}",
    ]
    errors = found.errors_percent()
    for place, name in enumerate(Summary._fields):
        cells = (found.fitted[0][place], found.fitted[1][place], found.held_out[0][place], found.held_out[1][place])
        lines.append(f"{name:<10} " + " ".join(f"{cell:>10.3f}" for cell in cells) + f" {errors[name]:>+8.1f}")
    return "\n".join(lines)


def as_plain(found: Validation) -> dict[str, Any]:
    """A validation as plain data."""
    mfu, mbu, layer_time_us = found.constants
    return {
        "run": found.run.name,
        "chip": found.run.chip,
        "model": found.run.model,
        "constants": {"mfu": mfu, "mbu": mbu, "layer_time_us": layer_time_us},
        "fitted_on": {"measured": found.fitted[0]._asdict(), "predicted": found.fitted[1]._asdict()},
        "held_out": {"measured": found.held_out[0]._asdict(), "predicted": found.held_out[1]._asdict()},
        "errors_percent": found.errors_percent(),
        "preemptions": found.preemptions,
    }


def fit(run: Run, sheets: Datasheets, traits: Traits) -> tuple[float, float, float]:
    """(MFU, MBU, time per layer in us) that make the first requests' means come out best: descent by a shrinking
    multiplicative step. Later requests take part as arrivals, their measured times are not looked at."""
    part = slice(0, FIT_REQUESTS)
    measured = _summary(run, [request.times for request in run.requests], part)

    def loss(constants: tuple[float, float, float]) -> float:
        predicted, _ = play(run, run_physics(run, sheets, traits, constants), traits)
        summary = _summary(run, predicted, part)
        return sum(abs(log(getattr(summary, name) / getattr(measured, name))) for name in FITTED_ON)

    best, least, ratio = START, loss(START), FIRST_RATIO
    while ratio > LAST_RATIO:
        for near in _neighbours(best, ratio):
            if (found := loss(near)) < least:
                least, best = found, near
                break
        else:
            ratio = sqrt(ratio)
    return best


def run_physics(run: Run, sheets: Datasheets, traits: Traits, constants: tuple[float, float, float]) -> Physics:
    """The physics of a run's deployment with these constants and the run's own limits."""
    chip = _with_constants(sheets.chip(run.chip), constants)
    made = physics(chip, run.chips, sheets.model(run.model), DeploymentSpec(run.model, run.precision), traits)
    return replace(made, max_sequences=run.max_sequences, kv_room_tokens=run.kv_tokens or made.kv_room_tokens)


def play(run: Run, deployment: Physics, traits: Traits) -> tuple[list[Times], int]:
    """What the engine makes of a run's arrivals, without noise: the times of each request, and how many preemptions.

    Raises: CalibrationError for a request that even an empty engine could not hold.
    """
    engine = Engine(deployment, replace(traits, prefill_budget=run.batch_tokens), 0, 0.0, 0.0)
    jobs = []
    for place, request in enumerate(run.requests, start=1):
        now_ns = round(request.times.queued_s * 1e9)
        engine.advance(now_ns)
        try:
            jobs.append(engine.submit(now_ns, request.prompt_tokens, (request.completion_tokens,)))
        except ValueError as error:
            raise CalibrationError(f"{run.name}: request {place}: {error}") from error
    while (next_ns := engine.next_event_ns()) is not None:
        engine.advance(next_ns)
    return [Times(*(moment / 1e9 for moment in job.timing)) for job in jobs], engine.preemptions  # type: ignore[operator]


def _summary(run: Run, times: Sequence[Times], part: slice) -> Summary:
    kept = times[part]
    sizes = run.requests[part]
    paces = [
        (each.last_token_s - each.first_token_s) / (size.completion_tokens - 1)
        for each, size in zip(kept, sizes, strict=True)
        if size.completion_tokens > 1
    ]
    return Summary(
        ttft=fmean(each.first_token_s - each.queued_s for each in kept),
        queue=fmean(each.scheduled_s - each.queued_s for each in kept),
        service=fmean(each.first_token_s - each.scheduled_s for each in kept),
        tpot=fmean(paces),
        makespan=max(each.last_token_s for each in kept),
    )


def _neighbours(constants: tuple[float, float, float], ratio: float) -> list[tuple[float, float, float]]:
    """Each constant up, down or as it is, in every combination: they make up for one another, so that moving one at a
    time gets stuck."""
    mfus, mbus, layers_us = (
        [min(high, max(low, value * factor)) for factor in (1.0, ratio, 1 / ratio)]
        for value, (low, high) in zip(constants, LIMITS, strict=True)
    )
    return [near for near in dict.fromkeys(product(mfus, mbus, layers_us)) if near != constants]


def _with_constants(chip: ChipSheet, constants: tuple[float, float, float]) -> ChipSheet:
    mfu, mbu, layer_time_us = (Figure(value, "fitted") for value in constants)
    return replace(chip, mfu=mfu, mbu=mbu, layer_time_us=layer_time_us, default_software=None)


def _requests(rows: Sequence[dict[str, Any]]) -> tuple[Recorded, ...]:
    rows = sorted(rows, key=lambda row: float(row["queued_ts"]))
    start_s = float(rows[0]["queued_ts"])
    moments = ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
    return tuple(
        Recorded(
            int(row["input_toks"]), int(row["output_toks"]), Times(*(float(row[name]) - start_s for name in moments))
        )
        for row in rows
    )


def _named(known: Any, wanted: str) -> str:
    """The datasheet whose name is this one but for case and punctuation."""
    plain = {"".join(filter(str.isalnum, name.lower())): name for name in known}
    return str(plain["".join(filter(str.isalnum, wanted.lower()))])
