"""What makes each substrate different. Every test here fails when the substrate is given the GPU's traits instead."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from math import log, sqrt
from pathlib import Path

import pytest

from backends import cerebras, groq, registry, tpu, trainium
from backends.clock import VirtualClock
from backends.emulator.engine import Engine
from backends.emulator.jobs import Job
from backends.emulator.profile import decode_s, latency_profile, prefill_s
from backends.emulator.roofline import Physics, physics
from backends.emulator.traits import GPU, Traits
from backends.errors import BackendConfigError, DoesNotFit, UnknownFigure, UnknownKind
from backends.types import BackendSpec
from tests.sheets import QUIET, deployment, sheets, shipped_specs, spec_of

END_NS = 10**14
ROOT = Path(__file__).resolve().parents[3]


def physics_of(kind: str, traits: Traits, model: str = "llama-3.1-8b") -> Physics:
    spec = spec_of(kind, model)
    return physics(sheets().chip(spec.chip), spec.chips, sheets().model(model), spec.deployments[0], traits)


def run(kind: str, traits: Traits, prompt: int, lengths: list[int], seed: int = 1, noise: float = 0.0) -> Job:
    machine = Engine(physics_of(kind, traits), traits, seed, noise, noise)
    job = machine.submit(0, prompt, lengths)
    machine.advance(END_NS)
    return job


def ttft_ns(kind: str, traits: Traits, prompt: int) -> int:
    first = run(kind, traits, prompt, [1]).first_token_ns
    assert first is not None
    return first


def tpot_s(job: Job) -> float:
    assert job.ended_ns is not None
    assert job.first_token_ns is not None
    return (job.ended_ns - job.first_token_ns) / 1e9 / (max(job.lengths) - 1)


def deviates(check: object, kind: str) -> None:
    """`check(traits)` must hold for the substrate's own traits and fail for the GPU's."""
    assert callable(check)
    own = import_module(f"backends.{kind}").TRAITS
    assert check(own)
    assert not check(GPU)


@pytest.mark.parametrize("kind", ["tpu", "trainium"])
def test_static_shapes_read_a_prompt_as_its_bucket(kind: str) -> None:
    def padded(traits: Traits) -> bool:
        return ttft_ns(kind, traits, 1100) == ttft_ns(kind, traits, 2048)

    deviates(padded, kind)


def test_trainium_has_fewer_and_wider_buckets_than_tpu() -> None:
    assert tpu.TRAITS.static_shapes is not None
    assert trainium.TRAITS.static_shapes is not None
    assert tpu.TRAITS.static_shapes.prompt_bucket(600) == 1024
    assert trainium.TRAITS.static_shapes.prompt_bucket(600) == 2048


@pytest.mark.parametrize("kind", ["tpu", "trainium"])
def test_a_cold_bucket_compiles_once(kind: str) -> None:
    def compiles(traits: Traits) -> bool:
        machine = Engine(physics_of(kind, traits), traits, 1, 0.0, 0.0)
        first = machine.submit(0, 20_000, [1])
        machine.advance(END_NS)
        second = machine.submit(END_NS, 20_000, [1])
        machine.advance(2 * END_NS)
        cold = first.first_token_ns
        warm = second.first_token_ns - END_NS  # type: ignore[operator]
        return cold - warm >= 10**10  # type: ignore[operator]

    deviates(compiles, kind)


@pytest.mark.parametrize("kind", ["tpu", "trainium"])
def test_static_shapes_pad_the_batch(kind: str) -> None:
    shapes = import_module(f"backends.{kind}").TRAITS.static_shapes
    assert shapes.batch_bucket(9) == shapes.batch_bucket(16) == 16


@pytest.mark.parametrize("kind", ["tpu", "trainium"])
def test_decode_waits_while_a_static_prompt_is_read(kind: str) -> None:
    def stalls(traits: Traits) -> bool:
        machine = Engine(physics_of(kind, traits), traits, 1, 0.0, 0.0)
        running = machine.submit(0, 16, [1000])
        machine.advance(10**9)
        before = machine.produced(running.lanes_made[0])
        reading = machine.submit(10**9, 3000, [1])
        while reading.first_token_ns is None:
            machine.advance(machine.next_event_ns())  # type: ignore[arg-type]
        return machine.produced(running.lanes_made[0]) - before <= 1

    deviates(stalls, kind)


@pytest.mark.parametrize("kind", ["groq", "cerebras"])
def test_a_pipelines_step_does_not_depend_on_the_batch(kind: str) -> None:
    def flat(traits: Traits) -> bool:
        if kind == "groq" and traits is GPU:
            # Bandwidth would explain no such speed: a GPU's law cannot even be applied without a link figure.
            with pytest.raises(UnknownFigure):
                physics_of(kind, traits)
            return False
        return tpot_s(run(kind, traits, 100, [50])) == pytest.approx(tpot_s(run(kind, traits, 100, [50] * 16)))

    deviates(flat, kind)


def test_groq_takes_the_same_time_every_time() -> None:
    times = {run("groq", groq.TRAITS, 500, [80], seed, noise=0.08).ended_ns for seed in range(5)}
    assert len(times) == 1
    noisy = replace(groq.TRAITS, noisy=GPU.noisy)
    assert len({run("groq", noisy, 500, [80], seed, noise=0.08).ended_ns for seed in range(5)}) == 5


@pytest.mark.parametrize("kind", ["groq", "cerebras"])
def test_a_pipeline_holds_no_more_sequences_than_layers(kind: str) -> None:
    traits = import_module(f"backends.{kind}").TRAITS
    assert physics_of(kind, traits).max_sequences == sheets().model("llama-3.1-8b").layers


def test_speed_of_sram_parts_is_layers_times_time_per_layer() -> None:
    for kind, traits in (("groq", groq.TRAITS), ("cerebras", cerebras.TRAITS)):
        chip = sheets().chip(spec_of(kind).chip)
        layer_s = chip.constants().layer_time_us * 1e-6
        assert tpot_s(run(kind, traits, 10, [100])) == pytest.approx(32 * layer_s, rel=1e-6)


def test_maia_computes_bf16_on_its_vector_engine_only() -> None:
    def slow(traits: Traits) -> bool:
        chip, model = sheets().chip("maia200"), sheets().model("llama-3.1-8b")
        fp8 = physics(chip, 1, model, deployment(precision="fp8")[0], traits)
        try:
            bf16 = physics(chip, 1, model, deployment(precision="bf16")[0], traits)
        except UnknownFigure:
            return False
        return bf16.seconds_per_flop == pytest.approx(16 * fp8.seconds_per_flop)

    deviates(slow, "maia")


def test_gpu_mixes_chunks_of_a_prompt_with_decode() -> None:
    machine = Engine(physics_of("gpu", GPU), GPU, 1, 0.0, 0.0)
    running = machine.submit(0, 16, [1000])
    machine.advance(10**9)
    before = machine.produced(running.lanes_made[0])
    reading = machine.submit(10**9, 9000, [1])
    while reading.first_token_ns is None:
        machine.advance(machine.next_event_ns())  # type: ignore[arg-type]
    assert machine.produced(running.lanes_made[0]) - before >= 5


@pytest.mark.parametrize("name", sorted(shipped_specs()))
def test_the_profile_foretells_an_idle_engine(name: str) -> None:
    """A lone decode within 5 %; reading 300 to 4,000 prompt tokens within a third, and with buckets a factor f
    apart within sqrt(f) and a third either way."""
    spec = shipped_specs()[name]
    traits = import_module(f"backends.{spec.kind}").TRAITS
    model = sheets().model(spec.deployments[0].model)
    reduced = physics(sheets().chip(spec.chip), spec.chips, model, spec.deployments[0], traits)
    profile = latency_profile(reduced, traits)
    padding = sqrt(traits.static_shapes.prompt_factor) if traits.static_shapes is not None else 1.0
    for prompt in (300, 513, 1000, 1500, 2048, 2500, 4000):
        machine = Engine(reduced, traits, 1, 0.0, 0.0)
        job = machine.submit(0, prompt, [200])
        machine.advance(END_NS)
        foretold = profile.overhead_s + profile.prefill_s_per_token * prompt
        assert job.first_token_ns is not None
        assert abs(log(foretold / (job.first_token_ns / 1e9))) < log(4 / 3 * padding)
        assert profile.tpot_s(1) == pytest.approx(tpot_s(job), rel=0.05)


def test_the_table_in_the_docs_is_what_the_physics_says() -> None:
    """Row by row: TTFT of 1,000 tokens, TPOT at 1, 32 and all slots, the slots, and saturated tokens a second."""
    lines = (ROOT / "docs" / "emulator.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| ")]
    told = {row[0]: row[2:6] for row in rows if row[0] in shipped_specs()}
    computed = {name: timing_row(spec) for name, spec in shipped_specs().items()}
    assert told == computed


def timing_row(spec: BackendSpec) -> list[str]:
    traits = import_module(f"backends.{spec.kind}").TRAITS
    model = sheets().model(spec.deployments[0].model)
    reduced = physics(sheets().chip(spec.chip), spec.chips, model, spec.deployments[0], traits)
    slots = reduced.max_sequences
    tpots = " / ".join(f"{1e3 * decode_s(reduced, traits, lanes):.1f}" for lanes in (1, 32, slots))
    machine = Engine(reduced, traits, 1, 0.0, 0.0)
    jobs = [machine.submit(0, 1000, [500]) for _ in range(3 * slots)]
    machine.advance(10**15)
    saturated = len(jobs) * 500 / (max(job.ended_ns or 0 for job in jobs) / 1e9)
    return [f"{1e3 * prefill_s(reduced, traits, 1000):.0f}", tpots, str(slots), f"{round(saturated, -2):,.0f}"]


def test_every_kind_is_found_by_its_file() -> None:
    assert registry.emulated_kinds() == ("cerebras", "gpu", "groq", "maia", "tpu", "trainium")
    assert set(registry.kinds()) - set(registry.emulated_kinds()) == {"hosted", "local"}


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"kind": "gpux"}, UnknownKind, "did you mean 'gpu'"),
        ({"chip": "h10"}, UnknownFigure, "did you mean 'h100'"),
        ({"chip": "tpu_v5e"}, BackendConfigError, "belongs to kind 'tpu'"),
        ({"deployments": deployment("llama-3.3-70")}, UnknownFigure, "did you mean 'llama-3.3-70b'"),
        ({"deployments": deployment(precision="fp4")}, UnknownFigure, "states no fp4 rate"),
        ({"deployments": deployment() * 2}, BackendConfigError, "serves one model"),
        ({"deployments": deployment("llama-3.3-70b", "bf16")}, DoesNotFit, "the smallest group that fits is 2"),
    ],
)
def test_what_cannot_be_built_says_why(change: dict[str, object], error: type[Exception], says: str) -> None:
    spec = BackendSpec("b", "gpu", "h100", 1, deployment(), QUIET)
    with pytest.raises(error, match=says):
        registry.build(replace(spec, **change), sheets(), VirtualClock())  # type: ignore[arg-type]
