"""GPUs (NVIDIA, AMD): the common engine. Prompts are read in chunks that share steps with decode, KV is paged.

Their servers (vLLM, SGLang, TensorRT-LLM) schedule ahead: a step is made up while the one before it runs, so that an
arrival joins a step later; recorded vLLM runs cannot be explained without it (docs/calibration.md). In everything else
the other substrates are described by how they differ from this one. 8,192 tokens a step is the default of vLLM's server
on cards of the H100's class and of TensorRT-LLM; a smaller card's datasheet says less.
"""

from __future__ import annotations

from backends import building
from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.traits import Traits
from backends.types import BackendSpec, LiveSpec, Substrate

SUBSTRATE: Substrate = "gpu"

DIALECTS = ("openai",)
"""vLLM, SGLang, TensorRT-LLM, NIM, llama.cpp, Ollama."""

TRAITS = Traits(law="roofline", prefill="shared", prefill_budget=8192, kv_block_tokens=16, schedule_ahead=True)


def build(spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    return building.backend(spec, sheets, clock, SUBSTRATE, TRAITS)
