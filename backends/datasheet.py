"""Chips and models as published figures. Every figure says where it comes from and how far it can be trusted.

The YAML files in config/substrates and config/models have exactly these fields; whoever loads them validates
against these dataclasses. Units stand in the names; GB is 1e9 bytes, TFLOPS are dense.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
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
class ChipSheet:
    """One accelerator chip (or wafer).

    `mfu` and `mbu` are the shares of peak compute and bandwidth that are reached, `layer_time_us` the fixed
    time per layer, `collective_us` the latency of one all-reduce between two chips.
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

    def assumptions(self) -> tuple[str, ...]:
        """Names of the figures the emulator needs and no public source states."""
        needed = (
            "memory_gb bandwidth_tb_per_s bf16_tflops fp8_tflops interconnect_gb_per_s mfu mbu layer_time_us "
            "collective_us max_sequences"
        )
        return tuple(name for name in needed.split() if getattr(self, name).confidence in ("assumed", "estimate"))


@dataclass(frozen=True, slots=True)
class ModelSheet:
    """Architecture of a dense decoder model, from its published configuration.

    `embedding_parameters` is the input embedding: resident, but not read or multiplied at each step.
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
