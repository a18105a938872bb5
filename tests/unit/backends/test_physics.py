"""The law of a step: experts, latent attention, windows, precisions, and what must never happen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import gpu
from backends.datasheet import ChipSheet, Figure
from backends.emulator.roofline import Physics, Weights, peak_flops, physics
from backends.emulator.traits import Traits
from backends.errors import DoesNotFit, UnknownFigure
from backends.types import DeploymentSpec
from tests.sheets import sheets

DENSE, EXPERTS = "llama-3.1-8b", "gpt-oss-120b"
SOME = ("llama-3.1-8b", "llama-3.3-70b", "gpt-oss-20b", "gpt-oss-120b", "qwen3-30b-a3b", "mixtral-8x7b")


def of(model: str, precision: str, chip: str | ChipSheet = "h200", chips: int = 8, kv: str | None = None) -> Physics:
    sheet = sheets().chip(chip) if isinstance(chip, str) else chip
    spec = DeploymentSpec(model, precision, kv_precision=kv)
    return physics(sheet, chips, sheets().model(model), spec, gpu.TRAITS)


def native(model: str) -> str:
    return sheets().model(model).native_precision or "fp8"


@pytest.mark.parametrize(
    ("model", "total_gb", "active_billion"),
    [  # as the model cards say: checkpoint size or parameters, and active parameters (embedding aside)
        ("gpt-oss-120b", 65, 5.1),
        ("gpt-oss-20b", 14, 3.6),
        ("qwen3-30b-a3b", 31, 3.0),
        ("qwen3-235b-a22b", 236, 21.5),
        ("mixtral-8x7b", 47, 12.7),
        ("deepseek-v3", 673, 36.6),
    ],
)
def test_experts_are_all_resident_and_few_are_active(model: str, total_gb: float, active_billion: float) -> None:
    weights = Weights.of(sheets().model(model), native(model))
    assert weights.total_bytes / 1e9 == pytest.approx(total_gb, rel=0.05)
    assert (weights.active_parameters + weights.head_parameters) / 1e9 == pytest.approx(active_billion, rel=0.03)


def test_a_step_reads_the_experts_its_tokens_touch() -> None:
    reduced = of(EXPERTS, "mxfp4", "b200", 1)
    read = [reduced.parts(tokens, 0, 0, 0.0)[1] - reduced.weights_s for tokens in (1, 8, 32, 128)]
    # Uniform routing, k = 4 of 128: 3 %, 22 %, 64 % and 98 % of the experts (hardware research, section C).
    assert [share / reduced.experts_s for share in read] == pytest.approx([0.031, 0.224, 0.638, 0.983], abs=0.002)


def test_latent_attention_keeps_one_small_vector_a_layer() -> None:
    assert of("deepseek-v3", "fp8").kv_bytes_per_token == 61 * (512 + 64) * 2
    assert of("llama-3.3-70b", "fp8", kv="fp8").kv_bytes_per_token == 2 * 80 * 8 * 128


def test_window_layers_read_no_more_than_their_window() -> None:
    reduced = of(EXPERTS, "mxfp4", "b200", 1)
    per_layer = 2 * 8 * 64 * 2

    def kv_bytes(context: int) -> float:
        read_s = reduced.parts(1, context, 0, 0.0)[2] - reduced.activation_s_per_token
        return read_s / reduced.kv_seconds_per_byte

    assert kv_bytes(100) == pytest.approx(36 * per_layer * 100)
    assert kv_bytes(10_000) == pytest.approx(18 * per_layer * (10_000 + 128))
    # Prefill past the window is linear in it: a full layer reads n^2, a windowed one 2 n w.
    long, longer = reduced.attention(0, 10_000), reduced.attention(0, 20_000)
    assert longer < 4 * long


def test_windows_are_set_aside_for_every_slot() -> None:
    reduced = of(EXPERTS, "mxfp4", "h100", 1)
    memory = 80e9 * 0.9 - Weights.of(sheets().model(EXPERTS), "mxfp4").total_bytes
    windows = reduced.max_sequences * 128 * reduced.window_kv_bytes_per_token
    assert reduced.kv_room_tokens == int((memory - windows) / reduced.kv_bytes_per_token)


def test_mxfp4_is_unpacked_where_there_is_no_fp4() -> None:
    assert peak_flops(sheets().chip("h100"), "mxfp4", Traits()) == 989e12
    assert peak_flops(sheets().chip("b200"), "mxfp4", Traits()) == 4500e12
    with pytest.raises(UnknownFigure, match="states no fp4 rate"):
        peak_flops(sheets().chip("h100"), "fp4", Traits())


def test_experts_that_do_not_fit_say_by_how_much() -> None:
    with pytest.raises(DoesNotFit, match=r"DeepSeek V3 at fp8 needs 67\d\.\d GB .* the smallest group that fits is 10"):
        of("deepseek-v3", "fp8", "h100", 8)
    assert of("deepseek-v3", "fp8", "h100", 10).kv_room_tokens > 0


def test_a_deployment_may_name_its_software() -> None:
    chip, model = sheets().chip("h100"), sheets().model(DENSE)
    spec = DeploymentSpec(DENSE, "fp8", software="vllm")
    named = physics(chip, 1, model, spec, gpu.TRAITS)
    assert named.layer_s == chip.software["vllm"].layer_time_us * 1e-6
    assert physics(chip, 1, model, replace(spec, software=None), gpu.TRAITS).layer_s != named.layer_s
    with pytest.raises(UnknownFigure, match="did you mean 'vllm'"):
        physics(chip, 1, model, replace(spec, software="vlm"), gpu.TRAITS)


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(SOME),
    chips=st.sampled_from((2, 4, 8)),
    lanes=st.integers(1, 512),
    context=st.integers(1, 8000),
    prompt=st.integers(0, 8192),
    faster=st.floats(1.0, 4.0),
)
def test_more_bandwidth_is_never_slower(
    model: str, chips: int, lanes: int, context: int, prompt: int, faster: float
) -> None:
    chip = sheets().chip("h200")
    wide = replace(chip, bandwidth_tb_per_s=Figure(4.8 * faster, "assumed"))
    slow_s, fast_s = (
        of(model, native(model), each, chips).step_s(lanes, lanes * context, [(0, prompt)]) for each in (chip, wide)
    )
    assert fast_s <= slow_s


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(SOME),
    chips=st.sampled_from((1, 2, 4, 8)),
    lanes=st.integers(1, 1000),
    context=st.integers(1, 8000),
)
def test_a_larger_batch_never_raises_a_users_speed(model: str, chips: int, lanes: int, context: int) -> None:
    reduced = of(model, native(model), chips=chips)
    assert reduced.step_s(lanes + 1, (lanes + 1) * context) >= reduced.step_s(lanes, lanes * context)


@settings(max_examples=60, deadline=None)
@given(model=st.sampled_from(SOME), lanes=st.integers(1, 300), each=st.integers(1, 8000))
def test_a_decode_line_is_the_step_it_stands_for(model: str, lanes: int, each: int) -> None:
    reduced, context = of(model, native(model)), lanes * each
    base_s, per_token_s = reduced.decode_line(lanes, context)
    assert base_s + per_token_s * context == pytest.approx(reduced.step_s(lanes, context), rel=1e-9)
    if each > 128:
        assert base_s + per_token_s * (context + 50) == pytest.approx(reduced.step_s(lanes, context + 50), rel=1e-9)


def test_short_prompts_read_together_attend_only_to_themselves() -> None:
    reduced = of("llama-3.1-8b", "fp8", chips=1)
    together = reduced.step_s(0, 0, [(0, 1024)] * 8)
    assert together < reduced.step_s(0, 0, [(0, 8192)])
    assert together == pytest.approx(reduced.step_s(0, 0, [(0, 1024), *[(0, 1024)] * 7]))
