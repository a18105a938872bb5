"""How long one engine step takes and how much KV fits: pure arithmetic over published figures.

    weights      W = P_mm * s_w + P_embedding * 2 bytes
    KV           2 * layers * kv_heads * head_dim * s_kv bytes per token
    compute      (2 P_mm t + 2 layers heads head_dim (end^2 - start^2)) / (N * peak * MFU)     t = tokens in the step
    memory       W_read / (N * bandwidth * MBU)
    all-reduce   alpha (1 + log2(N/2) / 4) + 2 (N - 1) / N * 2 t hidden / link                 twice a layer
    roofline     max(compute, memory) + context * KV / (min(N, kv_heads) * bandwidth * MBU) + layers (t_layer + 2 t_ar)
    pipeline     compute of the prompt chunk + layers * t_layer

Sources: Kim et al., "Full Stack Optimization of Transformer Inference" (2023) for the roofline; the constants and
their origin stand in the datasheets.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from backends.datasheet import KV_BYTES, WEIGHT_BYTES, ChipSheet, ModelSheet, number
from backends.emulator.traits import Traits
from backends.errors import DoesNotFit, UnknownFigure
from backends.types import DeploymentSpec

USABLE_MEMORY = 0.9
REFERENCE_CONTEXT_TOKENS = 1500
"""Prompt and half an answer of a typical chat request: what slots are sized and linearised for."""


@dataclass(frozen=True, slots=True)
class Physics:
    """A model at a precision on a group of chips, reduced to what a step's time is made of (SI units)."""

    layers: int
    layer_s: float
    weights_s: float
    seconds_per_flop: float
    flops_per_token: float
    attention_flops: float
    kv_bytes_per_token: float
    kv_seconds_per_byte: float
    collective_s: float
    collective_s_per_token: float
    kv_room_tokens: int
    pipeline: bool
    max_sequences: int

    def step_s(self, lanes: int, context_tokens: int, prefill_tokens: int, prefill_start: int) -> float:
        """Seconds for a step that decodes `lanes` sequences with `context_tokens` of KV between them and reads
        `prefill_tokens` of a prompt from position `prefill_start`."""
        end = prefill_start + prefill_tokens
        attention = self.attention_flops * (end * end - prefill_start * prefill_start)
        if self.pipeline:
            prompt_s = (self.flops_per_token * prefill_tokens + attention) * self.seconds_per_flop
            return prompt_s + self.layers * self.layer_s
        tokens = lanes + prefill_tokens
        compute_s = (self.flops_per_token * tokens + attention) * self.seconds_per_flop
        return (
            max(compute_s, self.weights_s)
            + context_tokens * self.kv_bytes_per_token * self.kv_seconds_per_byte
            + self.layers * (self.layer_s + 2 * (self.collective_s + self.collective_s_per_token * tokens))
        )

    def decode_line(self, lanes: int, context_tokens: int) -> tuple[float, float]:
        """(seconds, seconds per token of context) of a step that decodes `lanes` sequences and reads no prompt: its
        time is linear in the KV it reads, `step_s(lanes, c, 0, 0)` for any c near `context_tokens`."""
        per_token_s = 0.0 if self.pipeline else self.kv_bytes_per_token * self.kv_seconds_per_byte
        return self.step_s(lanes, context_tokens, 0, 0) - per_token_s * context_tokens, per_token_s


def physics(chip: ChipSheet, chips: int, model: ModelSheet, spec: DeploymentSpec, traits: Traits) -> Physics:
    """The physics of a deployment.

    Raises: UnknownFigure for a precision the chip has no rate for; DoesNotFit, saying by how much.
    """
    if spec.precision not in WEIGHT_BYTES:
        raise UnknownFigure(f"precision '{spec.precision}' is not one of {', '.join(WEIGHT_BYTES)}")
    matrix_parameters = model.parameters - model.embedding_parameters
    weight_bytes = matrix_parameters * WEIGHT_BYTES[spec.precision] + model.embedding_parameters * 2
    kv_bytes = 2 * model.layers * model.kv_heads * model.head_dim * KV_BYTES[spec.kv_precision or "bf16"]
    memory = number(chip.memory_gb, "memory_gb") * 1e9 * USABLE_MEMORY
    needed = weight_bytes + kv_bytes * REFERENCE_CONTEXT_TOKENS
    if needed > memory * chips:
        smallest = int(-(-needed // memory))
        raise DoesNotFit(
            f"{model.title} at {spec.precision} needs {needed / 1e9:.1f} GB with the KV cache of one request, "
            f"{chips} x {chip.title} offer {memory * chips / 1e9:.1f} GB: {(needed - memory * chips) / 1e9:.1f} GB "
            f"too little; the smallest group that fits is {smallest}"
        )
    room = int((memory * chips - weight_bytes) / kv_bytes)
    bandwidth = number(chip.bandwidth_tb_per_s, "bandwidth_tb_per_s") * 1e12 * number(chip.mbu, "mbu")
    alpha, per_token = _collectives(chip, chips, model.hidden_size) if traits.law == "roofline" else (0.0, 0.0)
    ceiling = int(number(chip.max_sequences, "max_sequences"))
    if traits.law == "pipeline":
        ceiling = min(ceiling, model.layers)
    return Physics(
        layers=model.layers,
        layer_s=number(chip.layer_time_us, "layer_time_us") * 1e-6,
        weights_s=matrix_parameters * WEIGHT_BYTES[spec.precision] / (chips * bandwidth),
        seconds_per_flop=1 / (chips * peak_flops(chip, spec.precision, traits) * number(chip.mfu, "mfu")),
        flops_per_token=2.0 * matrix_parameters,
        attention_flops=2.0 * model.layers * model.attention_heads * model.head_dim,
        kv_bytes_per_token=kv_bytes,
        kv_seconds_per_byte=1 / (min(chips, model.kv_heads) * bandwidth),
        collective_s=alpha,
        collective_s_per_token=per_token,
        kv_room_tokens=room,
        pipeline=traits.law == "pipeline",
        max_sequences=max(1, min(ceiling, room // REFERENCE_CONTEXT_TOKENS)),
    )


def _collectives(chip: ChipSheet, chips: int, hidden_size: int) -> tuple[float, float]:
    """(seconds, seconds per token) of one all-reduce of BF16 activations; the link figure is bidirectional."""
    if chips == 1:
        return 0.0, 0.0
    link = number(chip.interconnect_gb_per_s, "interconnect_gb_per_s") * 1e9 / 2
    alpha_s = number(chip.collective_us, "collective_us") * 1e-6 * (1 + 0.25 * log2(chips / 2))
    return alpha_s, 2 * (chips - 1) / chips * 2 * hidden_size / link


def peak_flops(chip: ChipSheet, precision: str, traits: Traits) -> float:
    """Dense peak of one chip at a precision, in FLOP/s.

    Raises: UnknownFigure if the chip has no rate for it.
    """
    divisor = (traits.compute_divisor or {}).get(precision)
    if divisor is not None:
        return number(chip.fp8_tflops, "fp8_tflops") * 1e12 / divisor
    figure = {
        "bf16": chip.bf16_tflops,
        "fp8": chip.fp8_tflops,
        "int8": chip.fp8_tflops,
        "fp4": chip.fp4_tflops,
        "mxfp4": chip.fp4_tflops,
    }[precision]
    if figure.value is None:
        stated = [
            name
            for name, other in (("bf16", chip.bf16_tflops), ("fp8", chip.fp8_tflops), ("fp4", chip.fp4_tflops))
            if other.value is not None
        ]
        raise UnknownFigure(f"{chip.title} states no {precision} rate (it states: {', '.join(stated)})")
    return figure.value * 1e12
