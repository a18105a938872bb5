"""A measured point as the physics sees it: the steady state it was taken in, and the figure that comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

from app.calibration.points import Point, UnreadableRow
from backends.datasheet import ChipSheet, Constants, Datasheets, Figure
from backends.emulator.roofline import physics
from backends.emulator.steady import ClosedLoop, SteadyState, steady_state, ttft_s, unloaded
from backends.emulator.traits import Traits
from backends.errors import BackendConfigError
from backends.types import DeploymentSpec

BENCHMARK_LANES = 2048
"""What benchmarks raise the batch to (trtllm-bench's max_batch_size); a server's default of 256 is not theirs."""

RESERVING = ("trtllm", "mlperf")
"""Software that admits a sequence only when its whole answer is sure of room (GUARANTEED_NO_EVICT)."""

LANE_LAYER_US = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What cross-validation may choose from for `lane_layer_us`, the number that all GPUs share."""

NEUTRAL = Constants(mfu=1.0, mbu=1.0, layer_time_us=0.0, moe_mfu=1.0)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A point reduced to the parts of its steps: `predicted(constants)` costs a microsecond."""

    point: Point
    family: str
    moe: bool
    pipeline: bool
    architecture: str
    state: SteadyState
    prompt_steps: tuple[SteadyState, ...]

    def predicted(self, known: Constants) -> float:
        """In the unit of `point.measured`."""
        point = self.point
        if point.metric == "tpot":
            return 1e3 * self.state.tpot_s(known)
        if point.metric == "ttft":
            return 1e3 * ttft_s(self.prompt_steps, known)
        if point.metric == "speed":
            return 1 / self.state.tpot_s(known)
        total = self.state.output_tokens_per_s(known) * point.replicas
        if point.metric == "tput_total":
            total *= 1 + self.state.prompt_tokens / self.state.answer_tokens
        return total / (point.chips * point.replicas) if point.per_chip else total


def prepare(point: Point, sheets: Datasheets, lane_layer_us: float | None = None) -> Prepared:
    """The steady state of a point; `lane_layer_us` in place of the datasheet's, on chips that have one.

    Raises: UnreadableRow, saying why: it does not fit, or a figure is missing.
    """
    chip, model = sheets.chip(point.chip), sheets.model(point.model)
    if lane_layer_us is not None and chip.lane_layer_us is not None:
        chip = replace(chip, lane_layer_us=replace(chip.lane_layer_us, value=lane_layer_us))
    traits: Traits = import_module(f"backends.{chip.substrate}").TRAITS
    if chip.prefill_budget_tokens is not None:
        traits = replace(traits, prefill_budget=chip.prefill_budget_tokens)
    spec = DeploymentSpec(point.model, point.precision, kv_precision=point.kv)
    # How many chips answer behind a public API is not published, and a pipeline's pace does not depend on it.
    unknown_size = point.metric == "speed" and traits.law == "pipeline"
    try:
        chips = point.chips * 64 if unknown_size else point.chips
        reduced = physics(_neutral(chip), chips, model, spec, traits)
    except (BackendConfigError, KeyError) as error:
        raise UnreadableRow(str(error)) from None
    load = ClosedLoop(max(1.0, point.concurrency / point.replicas), point.isl, point.osl)
    lanes = min(BENCHMARK_LANES, point.max_batch)
    if traits.law == "pipeline":
        lanes = min(lanes, reduced.max_sequences)
    moe = model.moe is not None
    return Prepared(
        point=point,
        family=chip.family or point.chip,
        moe=moe,
        pipeline=traits.law == "pipeline",
        architecture=f"{model.layers}x{model.hidden_size}",
        state=steady_state(reduced, traits, load, lanes, point.software in RESERVING, moe),
        prompt_steps=unloaded(reduced, traits, point.isl, moe) if point.metric == "ttft" else (),
    )


def stored_constants(chip: ChipSheet, software: str) -> Constants:
    """What the datasheet has for this software, else what was fitted over all of the chip's."""
    return replace(chip, default_software=None).constants(software if software in chip.software else None)


def _neutral(chip: ChipSheet) -> ChipSheet:
    """The chip with constants that scale nothing, and slots for a benchmark's batch."""
    one, none = Figure(1.0, "derived"), Figure(0.0, "derived")
    slots = Figure(float(BENCHMARK_LANES), "assumed")
    return replace(chip, mfu=one, mbu=one, layer_time_us=none, moe_mfu=one, default_software=None, max_sequences=slots)
