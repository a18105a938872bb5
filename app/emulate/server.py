"""Running a stand-alone emulated server: one backend, one listener, a ready line, graceful drain on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import dataclass

import uvloop

from app.emulate.app import EmulatedServer
from app.emulate.catalog import Choice
from app.emulate.completions import Completions
from app.emulate.faults_desk import FaultsDesk
from app.emulate.faults_file import FaultsFile
from app.emulate.metrics import VllmMetrics
from app.ids import Ids
from app.listening import Server, calm_collector, drained_by_signals, listen, url_of, uvicorn_config
from backends.clock import Clock, ScaledClock, SystemClock
from backends.datasheet import Datasheets
from backends.emulator.backend import EmulatedBackend
from backends.emulator.build import emulated
from backends.types import BackendSpec, DeploymentInfo, EmulationSpec

CREATED_EPOCH_S = 1_700_000_000
"""`created` of the model: OpenAI's clients want an integer; an emulated model has no birthday."""

DRAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to emulate and how to serve it. `context_tokens` is the model's own limit; `names` are what clients may call
    the model, the first one being its label."""

    choice: Choice
    context_tokens: int
    names: tuple[str, ...]
    host: str
    port: int
    time_scale: float
    emulation: EmulationSpec
    faults: FaultsFile
    admin_token: str | None


def run(options: Options, sheets: Datasheets, *, as_json: bool) -> int:
    """Serve until told to stop; the exit code of the process.

    Raises: BackendConfigError.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(options, sheets, as_json))


def build(options: Options, sheets: Datasheets) -> tuple[EmulatedBackend, EmulatedServer]:
    """The backend, not yet started, and the application over it.

    Raises: BackendConfigError.
    """
    choice = options.choice
    clock: Clock = SystemClock()
    if options.time_scale != 1:
        clock = ScaledClock(clock, options.time_scale)
    spec = BackendSpec(choice.chip, choice.kind, choice.chip, choice.chips, (choice.deployment,), options.emulation)
    backend = emulated(spec, sheets, clock, choice.kind, choice.traits)
    deployment = next(iter(backend.info.deployments.values()))

    cache_config = _cache_config(choice, prefix_caching=backend.prefix_block_tokens is not None)
    metrics = VllmMetrics(options.names[0], deployment.context_tokens, cache_config, backend.snapshot)
    faults = FaultsDesk(clock, options.faults)
    completions = Completions(backend, options.names, metrics, faults, Ids(), clock)
    models = [_model(name, deployment) for name in options.names]
    return backend, EmulatedServer(completions, metrics, faults, models, options.admin_token, clock)


async def _serve(options: Options, sheets: Datasheets, as_json: bool) -> int:
    try:
        listening = listen(options.host, options.port)
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr)
        return 1
    backend, app = build(options, sheets)
    server = Server(uvicorn_config(app, DRAIN_S))
    with drained_by_signals(server, 0.0, lambda: None):
        await backend.start()
        try:
            calm_collector()
            task = asyncio.create_task(server.serve([listening]))
            await server.listening.wait()
            _announce(options, backend, url_of(listening), as_json)
            await task
        finally:
            await backend.aclose()
    return 0


def _announce(options: Options, backend: EmulatedBackend, url: str, as_json: bool) -> None:
    info, name = backend.info, options.names[0]
    deployment = next(iter(info.deployments.values()))
    if as_json:
        ready = {
            "url": url,
            "model": name,
            "chip": info.chip,
            "chips": info.chips,
            "precision": deployment.precision,
            "context_tokens": deployment.context_tokens,
            "calibration": deployment.calibration,
        }
        print(json.dumps(ready), flush=True)
        return
    print(
        f"Emulating {name} at {deployment.precision} on {info.chips} x {info.chip} ({deployment.calibration}; "
        f"timing is computed, not a hardware result)"
    )
    print(f"  context  {deployment.context_tokens:,} tokens{_cut(options, deployment)}")
    print(f"  API      {url}/v1")
    print(f"  metrics  {url}/metrics")
    print("Try it:")
    print(
        f"  curl -s {url}/v1/chat/completions -H 'content-type: application/json' \\\n"
        f'    -d \'{{"model":"{name}","messages":[{{"role":"user","content":"Say hello"}}]}}\'',
        flush=True,
    )


def _cut(options: Options, deployment: DeploymentInfo) -> str:
    """Why the context is shorter than the model's own, where it is."""
    if deployment.context_tokens >= options.context_tokens:
        return ""
    return (
        f", all that KV memory leaves room for (the model's own: {options.context_tokens:,}; more --chips, more room)"
    )


def _model(name: str, deployment: DeploymentInfo) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": CREATED_EPOCH_S,
        "owned_by": "turnout",
        "root": deployment.model,
        "parent": None,
        "max_model_len": deployment.context_tokens,
    }


def _cache_config(choice: Choice, *, prefix_caching: bool) -> dict[str, str]:
    """The labels of vllm:cache_config_info that routers read."""
    block = choice.traits.kv_block_tokens
    return {
        "block_size": str(block),
        "num_gpu_blocks": str(choice.physics.kv_room_tokens // block),
        "gpu_memory_utilization": "0.9",
        "cache_dtype": choice.deployment.kv_precision or "bf16",
        "enable_prefix_caching": str(prefix_caching),
    }
