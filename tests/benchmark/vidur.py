"""Our engine alone against Microsoft's vidur simulator on the same requests. Command: python -m tests.benchmark vidur.

vidur lives in a venv of its own whose interpreter $TURNOUT_VIDUR_PYTHON names; without it this says so and skips.

    python3.11 -m venv X && X/bin/pip install vidur==0.0.26 && export TURNOUT_VIDUR_PYTHON=X/bin/python

The requests are the first of the Azure conversation trace at the load of the `engine` benchmark. Both have one backend
of 4 H100 with the same KV room, slots, block size and tokens a step, and both read prompts in chunks. Only the loop is
timed, in CPU seconds of its process, the best of a few rounds on either side: ours as it is, with noise and the whole
physics; vidur's with a cheaper formula in place of its own predictor, as its wheel has no profiles to predict from
(`vidur_loop` says what else is replaced). That both simulate the same is shown by steps and latencies, for which our
engine runs once more, untimed, without noise and by the same formula.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from backends.emulator.engine import Engine
from backends.emulator.roofline import Physics
from backends.emulator.traits import GPU
from tests.benchmark.engine import TRACE, Row, azure_rows, engine_of, llama_on_h100, loaded, play

REQUESTS, ROUNDS, TIMEOUT_S = 4000, 3, 900
VARIABLE = "TURNOUT_VIDUR_PYTHON"
OFFLINE = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}


class CannotRun(Exception):
    """vidur is not there, or did not finish; the message says which."""


def run() -> dict[str, float]:
    """Requests per CPU second of both, their ratio, and what shows that they simulated the same thing."""
    trace = azure_rows()
    if trace is None:
        print(f"vidur: {TRACE} is not there, skipped", flush=True)
        return {}
    reduced = llama_on_h100()
    rows = loaded(trace, reduced)[1][:REQUESTS]
    try:
        theirs = _vidur(rows, reduced)
    except CannotRun as error:
        print(f"vidur: not compared: {error}", flush=True)
        return {}
    print(
        "vidur: replaced are its predictor of step times (by a cheap formula) and its request generator (by the rows); "
        "metrics are off; event loop, Sarathi scheduler and bookkeeping are its own",
        flush=True,
    )
    ours_s = min(play(engine_of(reduced), rows, False) for _ in range(ROUNDS))
    steps, latency_s = _account(rows, reduced)
    return {
        "requests": len(rows),
        "turnout_requests_per_cpu_s": len(rows) / ours_s,
        "vidur_requests_per_cpu_s": len(rows) / theirs["cpu_s"],
        "turnout_over_vidur": theirs["cpu_s"] / ours_s,
        "turnout_steps": steps,
        "vidur_steps": theirs["steps"],
        "turnout_latency_mean_s": latency_s,
        "vidur_latency_mean_s": theirs["latency_s"],
        "vidur_unfinished": theirs["unfinished"],
    }


def _vidur(rows: list[Row], reduced: Physics) -> dict[str, float]:
    """CPU seconds, steps, mean latency and unfinished requests. Raises: CannotRun."""
    python = os.environ.get(VARIABLE)
    if not python:
        raise CannotRun(f"${VARIABLE} does not name the interpreter of a venv with vidur in it")
    task = {
        "rows": rows,
        "rounds": ROUNDS,
        "figures": _figures(reduced),
        "blocks": reduced.kv_room_tokens // GPU.kv_block_tokens,
        "block_tokens": GPU.kv_block_tokens,
        "slots": reduced.max_sequences,
        "step_tokens": GPU.prefill_budget,
    }
    with TemporaryDirectory() as folder:
        (Path(folder) / "task.json").write_text(json.dumps(task))
        # Isolated, as this folder has a module of vidur's name, and in a scratch folder, as vidur writes its output.
        command = [str(Path(python).absolute()), "-I", str(Path(__file__).resolve().with_name("vidur_loop.py"))]
        try:
            ended = subprocess.run(
                command, cwd=folder, env=os.environ | OFFLINE, capture_output=True, text=True, timeout=TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotRun(str(error)) from error
        if ended.returncode:
            said = ended.stderr.strip().splitlines()
            raise CannotRun(said[-1] if said else f"ended with {ended.returncode}")
        result: dict[str, float] = json.loads((Path(folder) / "result.json").read_text())
        return result


def _figures(reduced: Physics) -> dict[str, float]:
    """Our physics as a formula linear in tokens and KV but for the roofline's maximum; without the attention of a
    prompt to itself, which is quadratic."""
    compute_s, weights_s, beside_s, fixed_s = reduced.parts(0, 0, 0, 0)
    prompt, lane = reduced.parts(0, 0, 1, 0), reduced.parts(1, 0, 0, 0)
    return {
        "weights_s": weights_s,
        "prompt_token_compute_s": prompt[0] - compute_s,
        "lane_compute_s": lane[0] - compute_s,
        "kv_token_s": reduced.parts(0, 1, 0, 0)[2] - beside_s,
        "prompt_token_s": prompt[2] + prompt[3] - beside_s - fixed_s,
        "lane_s": lane[2] + lane[3] - beside_s - fixed_s,
        "decode_step_s": fixed_s + reduced.layers * reduced.layer_weight * reduced.layer_s,
        "prompt_step_s": fixed_s + reduced.layers * reduced.prompt_layer_weight * reduced.layer_s,
    }


def _account(rows: list[Row], reduced: Physics) -> tuple[int, float]:
    """Steps and mean latency in seconds of our engine by the formula vidur is given."""
    machine = Engine(replace(reduced, attention_flops=0.0), GPU, 1, 0.0, 0.0)
    jobs = []
    for at, prompt, length in rows:
        machine.advance(at)
        jobs.append(machine.submit(at, prompt, (length,)))
    machine.advance(10**18)
    spent_ns = sum(job.last_token_ns - job.queued_ns for job in jobs if job.last_token_ns is not None)
    return machine.steps, spent_ns / len(jobs) / 1e9
