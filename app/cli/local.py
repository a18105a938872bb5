"""`turnout local`: what the small model does on this machine, measured, and a configuration that serves it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click

from app.cli.loading import CHECK_FAILED, json_option
from app.config.load import shipped_sheets
from backends import registry
from backends.clock import SystemClock
from backends.errors import BackendConfigError
from backends.types import LatencyProfile, LiveDeploymentSpec, LiveSpec, LocalServer

MODEL = "smollm2-135m"
LEAST_MS = 0.01
"""The least that a configuration's `profile` may say."""


@click.command()
@click.option("--threads", default=1, show_default=True, help="Of the CPU, for the model.")
@click.option("--slots", default=2, show_default=True, help="Answers at a time.")
@click.option("--context", default=4096, show_default=True, help="Tokens of context of each.")
@click.option("--write", type=click.Path(path_type=Path), default=None, help="Write the configuration there.")
@json_option
def command(threads: int, slots: int, context: int, write: Path | None, as_json: bool) -> None:
    """Measure the local model on this machine (a quarter of a minute) and print a configuration that serves it.

    It is a model of 135 million parameters: it proves the plumbing and is no assistant.
    """
    server = LocalServer(threads, slots, context)
    try:
        profile = asyncio.run(_measured(server))
    except BackendConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)
    if as_json:
        print(json.dumps({"profile": as_configured(profile)}))
    text = configuration(profile, server)
    if write is not None:
        write.write_text(text)
    if not as_json:
        print(f"written: {write}" if write is not None else text, end="\n" if write is not None else "")


def as_configured(profile: LatencyProfile) -> dict[str, float]:
    """A profile in the words of the configuration."""
    return {
        "ttft_ms": max(LEAST_MS, round(profile.overhead_s * 1e3, 2)),
        "ttft_ms_per_1k_prompt_tokens": round(profile.prefill_s_per_token * 1e6, 1),
        "tpot_ms": max(LEAST_MS, round(profile.decode_base_s * 1e3, 2)),
        "tpot_ms_per_sequence": round(profile.decode_s_per_sequence * 1e3, 2),
        "max_sequences": profile.max_sequences,
    }


def configuration(profile: LatencyProfile, server: LocalServer) -> str:
    """A whole configuration, its latency the measured one."""
    context, per_slot = server.context_tokens, {"slots": server.slots, "context_tokens": server.context_tokens}
    process = _inline({"threads": server.threads, **per_slot, "max_waiting": server.max_waiting})
    return f"""\
# Written by `turnout local`. Without `profile` it is measured whenever the gateway starts.
version: 1
extends: shipped
models:
  {MODEL}: {{slo: batch, default_max_tokens: 256, max_tokens_cap: {context // 2}}}
backends:
  - name: this-machine
    mode: live
    kind: local
    server: {process}
    profile: {_inline(as_configured(profile))}
    timeouts: {{first_byte_s: 120, idle_s: 120, whole_s: 600}}
    deployments:
      # A small model: it proves the plumbing and is no assistant.
      - {{model: {MODEL}, context_tokens: {context}, quality: 0.05, capabilities: [json_schema, logprobs]}}
    pricing: {{type: tokens, usd_per_million_prompt: 0, usd_per_million_completion: 0,
              source: "this machine, its power not counted", confidence: assumed}}
"""


def _inline(fields: dict[str, float]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}"


async def _measured(server: LocalServer) -> LatencyProfile:
    """Raises: BackendConfigError."""
    deployment = LiveDeploymentSpec(MODEL, context_tokens=server.context_tokens)
    backend = registry.build(
        LiveSpec("local", "local", "", (deployment,), server=server), shipped_sheets(), SystemClock()
    )
    try:
        await backend.start()
        return backend.info.deployments[MODEL].profile
    finally:
        await backend.aclose()
