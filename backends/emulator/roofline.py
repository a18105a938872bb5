"""How long one engine step takes and how much KV fits: pure arithmetic over published figures.

t tokens in the step (b of them decoding, the rest of a prompt), N chips, F peak, B bandwidth, h hidden size:

    weights      P_body * s_w + P_head * 2 bytes are read; experts: W_e * (1 - (1 - k/E)^t) of theirs
    compute      2 P_active t / (N F MFU) + 2 P_head b / (N F_bf16 MFU) + attention / (N F_bf16 MFU)
    attention    heads (d_qk + d_v) (end^2 - start^2) a layer; past a window w, 2 heads (d_qk + d_v) w a token
    KV           2 layers kv_heads head_dim s_kv bytes a token (latent: layers (rank + rope) s_kv), read over
                 min(N, kv_heads) B MBU; a window layer reads no more than w tokens a sequence
    activations  layers h (24 + 46 / N) t / (B MBU): 12 reads and writes of a token's vector that every chip does, and
                 23 in the widths of a gated feed-forward that the chips share
    all-reduce   alpha (1 + log2(N/2) / 4) + 2 (N - 1) / N * 2 t h / link                 twice a layer
    roofline     max(compute, weights / (N B MBU)) + KV + activations + layers (t_layer + 2 t_ar + b t_lane)
                 a layer with experts takes 1.3 t_layer, a layer of a step that reads a prompt 2
    pipeline     compute of the prompt chunk + layers * t_layer

Sources: Kim et al., "Full Stack Optimization of Transformer Inference" (2023) for the roofline; the constants and
their origin stand in the datasheets, how well they do in docs/calibration.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from backends.datasheet import KV_BYTES, WEIGHT_BYTES, ChipSheet, Constants, ModelSheet, number
from backends.emulator.traits import Read, Traits
from backends.errors import DoesNotFit, UnknownFigure
from backends.types import REFERENCE_CONTEXT_TOKENS, DeploymentSpec

USABLE_MEMORY = 0.9
SHARED_TRAFFIC_BYTES, SPLIT_TRAFFIC_BYTES = 24, 46
"""Activation bytes per token, layer and unit of hidden size: moved by every chip, and divided among them."""

EXPERT_LAYER_WEIGHT = 1.3
"""A layer with experts takes more kernels one after the other than a dense one: about 14 (router, top-k, permutation
and its undoing besides) to 11. Counted, not fitted."""

LAUNCHED_WEIGHT = 2.0
"""Decode steps replay a captured graph; a step with prompt tokens launches its kernels one by one, at about twice the
time per layer. Compiled programs (static shapes) know no such difference."""


@dataclass(frozen=True, slots=True)
class Physics:
    """A model at a precision on a group of chips, reduced to what a step's time is made of (SI units).

    `kv_bytes_per_token` is the KV that grows with the context; window layers add `window_kv_bytes_per_token` for no
    more than `window_tokens` of a sequence, and room for them is set aside for every slot. `weights_s` is read at
    every step, `experts_s` as far as the step's tokens touch the experts, each `expert_share` of them.
    `attention_s_per_flop` None means `seconds_per_flop`.
    """

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
    attention_s_per_flop: float | None = None
    head_s_per_lane: float = 0.0
    activation_s_per_token: float = 0.0
    lane_s: float = 0.0
    experts_s: float = 0.0
    expert_share: float = 1.0
    window_tokens: int = 0
    window_kv_bytes_per_token: float = 0.0
    window_attention_flops: float = 0.0
    layer_weight: float = 1.0
    prompt_layer_weight: float = 1.0

    def step_s(self, lanes: float, context_tokens: float, reads: Sequence[Read] = ()) -> float:
        """Seconds for a step that decodes `lanes` sequences with `context_tokens` of KV between them and reads parts of
        prompts."""
        prefill_tokens, attention_flops = 0, 0.0
        for start, tokens in reads:
            prefill_tokens += tokens
            attention_flops += self.attention(start, start + tokens)
        compute_s, weights_s, other_s, fixed_s = self.parts(lanes, context_tokens, prefill_tokens, attention_flops)
        weight = self.prompt_layer_weight if prefill_tokens else self.layer_weight
        roofline_s = compute_s if compute_s > weights_s else weights_s
        return roofline_s + other_s + fixed_s + self.layers * weight * self.layer_s

    def parts(
        self, lanes: float, context_tokens: float, prefill_tokens: float, attention_flops: float
    ) -> tuple[float, float, float, float]:
        """What a step's time is made of, in seconds: compute and the reading of weights, which overlap; memory traffic
        beside them (KV, activations); what no constant scales (collectives, lanes). Time per layer comes on top."""
        rate = self.seconds_per_flop if self.attention_s_per_flop is None else self.attention_s_per_flop
        if self.pipeline:
            return self.flops_per_token * prefill_tokens * self.seconds_per_flop + attention_flops * rate, 0.0, 0.0, 0.0
        tokens = lanes + prefill_tokens
        compute_s = self.flops_per_token * tokens * self.seconds_per_flop + self.head_s_per_lane * lanes
        if attention_flops:
            compute_s += attention_flops * rate
        weights_s = self.weights_s
        if self.experts_s:
            weights_s += self.experts_s * (1.0 - (1.0 - self.expert_share) ** tokens)
        kv_bytes = context_tokens * self.kv_bytes_per_token
        if self.window_tokens:
            kv_bytes += min(context_tokens, lanes * self.window_tokens) * self.window_kv_bytes_per_token
        return (
            compute_s,
            weights_s,
            kv_bytes * self.kv_seconds_per_byte + self.activation_s_per_token * tokens,
            self.lane_s * lanes + 2 * self.layers * (self.collective_s + self.collective_s_per_token * tokens),
        )

    def decode_line(self, lanes: float, context_tokens: float) -> tuple[float, float]:
        """(seconds, seconds per token of context) of a step that decodes `lanes` sequences and reads no prompt: its
        time is linear in the KV it reads, `step_s(lanes, c)` for any c near `context_tokens` (with a window:
        on the same side of `lanes` whole windows)."""
        per_token_s = 0.0 if self.pipeline else self.kv_bytes_per_token * self.kv_seconds_per_byte
        if self.window_tokens and not self.pipeline and context_tokens < lanes * self.window_tokens:
            per_token_s += self.window_kv_bytes_per_token * self.kv_seconds_per_byte
        return self.step_s(lanes, context_tokens) - per_token_s * context_tokens, per_token_s

    def attention(self, start: float, end: float) -> float:
        """FLOPs of causal attention for the prompt tokens from `start` to `end`."""
        flops = self.attention_flops * (end * end - start * start)
        if self.window_attention_flops:
            flops += self.window_attention_flops * (
                _square_until(end, self.window_tokens) - _square_until(start, self.window_tokens)
            )
        return flops


def _square_until(tokens: float, window: int) -> float:
    """tokens^2, growing linearly past the window: twice the sum of what each token attends to."""
    return tokens * tokens if tokens <= window else window * (2 * tokens - window)


def physics(chip: ChipSheet, chips: int, model: ModelSheet, spec: DeploymentSpec, traits: Traits) -> Physics:
    """The physics of a deployment.

    Raises: UnknownFigure for a precision or a software the chip has no figures for; DoesNotFit, saying by how much.
    """
    known = chip.constants(spec.software)
    weights = Weights.of(model, spec.precision)
    attention = Attention.of(model, KV_BYTES[spec.kv_precision or "bf16"])
    memory = number(chip.memory_gb, "memory_gb") * 1e9 * USABLE_MEMORY
    _check_fits(chip, chips, model, spec, weights.total_bytes + attention.kv_bytes(REFERENCE_CONTEXT_TOKENS), memory)
    free = memory * chips - weights.total_bytes
    pipeline, graphs = traits.law == "pipeline", traits.static_shapes is None
    ceiling = int(number(chip.max_sequences, "max_sequences"))
    if pipeline:
        ceiling = min(ceiling, model.layers)
    slots = max(1, min(ceiling, int(free // attention.kv_bytes(REFERENCE_CONTEXT_TOKENS))))
    room = int((free - slots * attention.window_tokens * attention.window_kv_bytes) / attention.full_kv_bytes)
    bandwidth = number(chip.bandwidth_tb_per_s, "bandwidth_tb_per_s") * 1e12 * known.mbu
    alpha, per_token = (0.0, 0.0) if pipeline else _collectives(chip, chips, model.hidden_size)
    mfu = known.mfu if model.moe is None or known.moe_mfu is None else known.moe_mfu
    flop_s = 1 / (chips * peak_flops(chip, spec.precision, traits) * mfu)
    bf16_s = _bf16_s_per_flop(chip, chips, known, mfu, traits) or flop_s
    traffic = SHARED_TRAFFIC_BYTES + SPLIT_TRAFFIC_BYTES / chips
    lane_us = chip.lane_layer_us.value if chip.lane_layer_us is not None else None
    return Physics(
        layers=model.layers,
        layer_s=known.layer_time_us * 1e-6,
        weights_s=weights.read_bytes / (chips * bandwidth),
        seconds_per_flop=flop_s,
        flops_per_token=2.0 * weights.active_parameters,
        attention_flops=attention.full_flops,
        kv_bytes_per_token=attention.full_kv_bytes,
        kv_seconds_per_byte=1 / (min(chips, attention.kv_shards or chips) * bandwidth),
        collective_s=alpha,
        collective_s_per_token=per_token,
        kv_room_tokens=room,
        pipeline=pipeline,
        max_sequences=slots,
        attention_s_per_flop=bf16_s,
        head_s_per_lane=2.0 * weights.head_parameters * bf16_s,
        activation_s_per_token=model.layers * model.hidden_size * traffic / bandwidth,
        lane_s=model.layers * (lane_us or 0.0) * 1e-6,
        experts_s=weights.expert_bytes / (chips * bandwidth),
        expert_share=model.moe.active / model.moe.count if model.moe is not None else 1.0,
        window_tokens=attention.window_tokens,
        window_kv_bytes_per_token=attention.window_kv_bytes,
        window_attention_flops=attention.window_flops,
        layer_weight=1.0 if pipeline else _layer_weight(model),
        prompt_layer_weight=1.0 if pipeline else _layer_weight(model) * (LAUNCHED_WEIGHT if graphs else 1.0),
    )


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's weights at a precision: bytes that are resident, read at each step, read as experts are touched."""

    total_bytes: float
    read_bytes: float
    expert_bytes: float
    active_parameters: float
    head_parameters: int

    @classmethod
    def of(cls, model: ModelSheet, precision: str) -> Weights:
        """Raises: UnknownFigure for a precision nobody defines."""
        if precision not in WEIGHT_BYTES:
            raise UnknownFigure(f"precision '{precision}' is not one of {', '.join(WEIGHT_BYTES)}")
        experts, head = model.expert_parameters, model.vocabulary * model.hidden_size
        body = model.parameters - model.embedding_parameters - head - experts
        other = (model.moe.other_precision if model.moe is not None else None) or precision
        if WEIGHT_BYTES[other] < WEIGHT_BYTES[precision]:
            other = precision
        expert_bytes = experts * WEIGHT_BYTES[precision]
        read = body * WEIGHT_BYTES[other] + head * 2
        share = model.moe.active / model.moe.count if model.moe is not None else 1.0
        return cls(
            total_bytes=read + expert_bytes + model.embedding_parameters * 2,
            read_bytes=read,
            expert_bytes=expert_bytes,
            active_parameters=body + experts * share,
            head_parameters=head,
        )


@dataclass(frozen=True, slots=True)
class Attention:
    """What a token of context costs: KV bytes and FLOPs of the layers that attend to all, and of those with a window.

    `kv_shards` is over how many chips KV can be split by head; None = by sequence, over any number (latent attention
    has one head, and is served data-parallel).
    """

    full_kv_bytes: float
    window_kv_bytes: float
    window_tokens: int
    full_flops: float
    window_flops: float
    kv_shards: int | None

    @classmethod
    def of(cls, model: ModelSheet, kv_bytes: float) -> Attention:
        """From the architecture and the bytes of one KV element."""
        window, mla = model.window, model.mla
        windowed = window.layers if window is not None else 0
        if mla is not None:
            per_layer = (mla.kv_lora_rank + mla.rope_head_dim) * kv_bytes
            flops = 1.0 * model.attention_heads * (mla.nope_head_dim + mla.rope_head_dim + mla.v_head_dim)
        else:
            per_layer = 2 * model.kv_heads * model.head_dim * kv_bytes
            flops = 2.0 * model.attention_heads * model.head_dim
        return cls(
            full_kv_bytes=(model.layers - windowed) * per_layer,
            window_kv_bytes=windowed * per_layer,
            window_tokens=window.tokens if window is not None else 0,
            full_flops=(model.layers - windowed) * flops,
            window_flops=windowed * flops,
            kv_shards=None if mla is not None else model.kv_heads,
        )

    def kv_bytes(self, tokens: float) -> float:
        """KV of one sequence of this many tokens."""
        return tokens * self.full_kv_bytes + min(tokens, self.window_tokens) * self.window_kv_bytes


def _check_fits(
    chip: ChipSheet, chips: int, model: ModelSheet, spec: DeploymentSpec, needed: float, memory: float
) -> None:
    if needed > memory * chips:
        smallest = int(-(-needed // memory))
        raise DoesNotFit(
            f"{model.title} at {spec.precision} needs {needed / 1e9:.1f} GB with the KV cache of one request, "
            f"{chips} x {chip.title} offer {memory * chips / 1e9:.1f} GB: {(needed - memory * chips) / 1e9:.1f} GB "
            f"too little; the smallest group that fits is {smallest}"
        )


def _bf16_s_per_flop(chip: ChipSheet, chips: int, known: Constants, mfu: float, traits: Traits) -> float | None:
    """Attention and the output head run in BF16 whatever the weights; None where the chip's matrix engine has no BF16,
    and they are taken to run as the weights do."""
    if chip.bf16_tflops.value is None:
        return None
    return 1 / (chips * peak_flops(chip, "bf16", traits) * mfu)


def _layer_weight(model: ModelSheet) -> float:
    """Times per layer of an average layer."""
    return 1 + (EXPERT_LAYER_WEIGHT - 1) * model.moe.layers / model.layers if model.moe is not None else 1.0


def _collectives(chip: ChipSheet, chips: int, hidden_size: int) -> tuple[float, float]:
    """(seconds, seconds per token) of one all-reduce of BF16 activations; the link figure is bidirectional."""
    if chips == 1:
        return 0.0, 0.0
    link = number(chip.interconnect_gb_per_s, "interconnect_gb_per_s") * 1e9 / 2
    alpha_s = number(chip.collective_us, "collective_us") * 1e-6 * (1 + 0.25 * log2(chips / 2))
    return alpha_s, 2 * (chips - 1) / chips * 2 * hidden_size / link


def peak_flops(chip: ChipSheet, precision: str, traits: Traits) -> float:
    """Dense peak of one chip at a precision, in FLOP/s. MXFP4 weights are multiplied with FP8 activations where the
    chip has FP4 at all, and unpacked to BF16 where it has not (as Marlin and Triton kernels do).

    Raises: UnknownFigure if the chip has no rate for it.
    """
    if precision == "mxfp4":
        packed = chip.fp4_tflops.value is not None or chip.bf16_tflops.value is None
        precision = "fp8" if packed else "bf16"
    divisor = (traits.compute_divisor or {}).get(precision)
    if divisor is not None:
        return number(chip.fp8_tflops, "fp8_tflops") * 1e12 / divisor
    rates = {"bf16": chip.bf16_tflops, "fp8": chip.fp8_tflops, "int8": chip.fp8_tflops, "fp4": chip.fp4_tflops}
    figure = rates[precision]
    if figure.value is None:
        stated = [name for name in ("bf16", "fp8", "fp4") if rates[name].value is not None]
        raise UnknownFigure(f"{chip.title} states no {precision} rate (it states: {', '.join(stated)})")
    return figure.value * 1e12
