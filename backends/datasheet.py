"""Chips and models as published figures. Every figure says where it comes from and how far it can be trusted.

The YAML files in config/substrates and config/models have exactly these fields; whoever loads them validates
against these dataclasses. Units stand in the names; GB is 1e9 bytes, TFLOPS are dense.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from backends.errors import UnknownFigure
from backends.types import Substrate

Confidence = Literal["vendor-stated", "derived", "estimate", "secondary", "fitted", "assumed", "not public"]

WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5625, "mxfp4": 0.53125}
"""Bytes per weight, scales of block formats included (NVFP4: 4 bits and an FP8 scale per 16)."""

KV_BYTES = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `value` None means that no public source states it."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, which wants a plain dict

    value: float | None
    confidence: Confidence
    source: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class FittedConstants:
    """What `turnout calibrate` found for a chip under one serving software (docs/calibration.md).

    `rows` are the measured rows of this chip and software; `rows: 0` says that the constants are those of the chip's
    family, None that the chip's own figure holds. Errors are absolute and relative, in percent, in the sample.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    layer_time_us: float
    mfu: float | None = None
    mbu: float | None = None
    moe_mfu: float | None = None
    rows: int = 0
    median_error_percent: float | None = None
    p90_error_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Constants:
    """The constants a deployment's physics is made with; `moe_mfu` None means that `mfu` holds for experts too."""

    mfu: float
    mbu: float
    layer_time_us: float
    moe_mfu: float | None = None


@dataclass(frozen=True, slots=True)
class ChipSheet:
    """One accelerator chip (or wafer).

    `mfu` and `mbu` are the shares of peak compute and bandwidth that are reached, `layer_time_us` the fixed
    time per layer, `collective_us` the latency of one all-reduce between two chips, `moe_mfu` the share of peak
    compute that mixture-of-experts models reach, `lane_layer_us` the time per sequence and layer of a step that more
    chips do not shorten, `prefill_budget_tokens` the tokens a step serves (None: the substrate's own). These hold where
    no serving software is named; `software` has what was fitted per software. Chips of a `family` share a compute die.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    title: str
    substrate: Substrate
    memory_gb: Figure
    bandwidth_tb_per_s: Figure
    sram_mb: Figure
    bf16_tflops: Figure
    fp8_tflops: Figure
    fp4_tflops: Figure
    interconnect_gb_per_s: Figure
    tdp_w: Figure
    mfu: Figure
    mbu: Figure
    layer_time_us: Figure
    collective_us: Figure
    max_sequences: Figure
    calibration: Literal["calibrated", "uncalibrated"]
    calibration_note: str
    group: str = ""
    family: str = ""
    moe_mfu: Figure | None = None
    lane_layer_us: Figure | None = None
    prefill_budget_tokens: int | None = None
    default_software: str | None = None
    software: Mapping[str, FittedConstants] = field(default_factory=dict)

    def constants(self, software: str | None = None) -> Constants:
        """The constants under a serving software; None takes the chip's default one, or those fitted over all.

        Raises: UnknownFigure for a software there are no constants for, naming the nearest.
        """
        software = software or self.default_software
        if software is not None:
            fitted: FittedConstants = _lookup(f"{self.title} with software", self.software, software)
        else:
            fitted = FittedConstants(number(self.layer_time_us, "layer_time_us"))
        return Constants(
            number(self.mfu, "mfu") if fitted.mfu is None else fitted.mfu,
            number(self.mbu, "mbu") if fitted.mbu is None else fitted.mbu,
            fitted.layer_time_us,
            self.moe_mfu.value if fitted.moe_mfu is None and self.moe_mfu is not None else fitted.moe_mfu,
        )

    def assumptions(self) -> tuple[str, ...]:
        """Names of the figures the emulator needs and no public source states."""
        needed = (
            "memory_gb bandwidth_tb_per_s bf16_tflops fp8_tflops interconnect_gb_per_s mfu mbu layer_time_us "
            "collective_us max_sequences"
        )
        return tuple(name for name in needed.split() if getattr(self, name).confidence in ("assumed", "estimate"))


@dataclass(frozen=True, slots=True)
class Experts:
    """The routed experts of a mixture-of-experts model.

    `expert_parameters` are those of one expert in one layer, `active` how many a token is sent to. In published
    checkpoints the rest of the model may keep another precision than the experts: `other_precision`.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    count: int
    active: int
    layers: int
    expert_parameters: int
    other_precision: str | None = None


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention: a token's KV is one compressed vector and one rotary key, whatever the heads."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    kv_lora_rank: int
    rope_head_dim: int
    nope_head_dim: int
    v_head_dim: int


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Layers that attend to no more than the last `tokens`; the model's other layers attend to all."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    tokens: int
    layers: int


@dataclass(frozen=True, slots=True)
class ModelSheet:
    """Architecture of a decoder model, from its published configuration.

    `embedding_parameters` is the input embedding: resident, but not read or multiplied at each step. The output head
    is as large and stays in BF16 in published quantised checkpoints. `native_precision` is the one the weights are
    published in, where that is less than BF16.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    title: str
    source: str
    parameters: int
    embedding_parameters: int
    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context_tokens: int
    moe: Experts | None = None
    mla: LatentAttention | None = None
    window: SlidingWindow | None = None
    native_precision: str | None = None

    @property
    def expert_parameters(self) -> int:
        """All routed experts of all layers."""
        return self.moe.count * self.moe.layers * self.moe.expert_parameters if self.moe is not None else 0


@dataclass(frozen=True, slots=True)
class Datasheets:
    """All chips and models there are figures for."""

    chips: Mapping[str, ChipSheet]
    models: Mapping[str, ModelSheet]

    def chip(self, name: str) -> ChipSheet:
        """Raises: UnknownFigure, naming the nearest."""
        return _lookup("chip", self.chips, name)  # type: ignore[no-any-return]

    def model(self, name: str) -> ModelSheet:
        """Raises: UnknownFigure, naming the nearest."""
        return _lookup("model", self.models, name)  # type: ignore[no-any-return]


def number(figure: Figure, what: str) -> float:
    """The value of a figure the emulator cannot do without.

    Raises: UnknownFigure if no source states it.
    """
    if figure.value is None:
        raise UnknownFigure(f"{what} is not public, and no assumption stands in for it")
    return figure.value


def _lookup(kind: str, known: Mapping[str, Any], name: str) -> Any:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UnknownFigure(f"there is no datasheet for {kind} '{name}'{hint} (there are: {', '.join(sorted(known))})")
