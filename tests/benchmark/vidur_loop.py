"""The half of the vidur benchmark that runs inside vidur's own interpreter: `python -I vidur_loop.py` in a scratch
folder that holds `task.json`; it writes `result.json` there and imports nothing of Turnout.

vidur's own: event queue, events, Sarathi scheduler (chunked prefill), block accounting, batch and request bookkeeping,
the compiled `ExecutionTime`. Replaced: the predictor of step times, whose profiles are not in the wheel, by a formula
of a few multiplications, and the request generator, by the rows of the task. Metrics, plots and traces are off.
"""

from __future__ import annotations

import json
import logging
import time
from importlib import import_module
from pathlib import Path
from typing import Any

MODEL = "meta-llama/Llama-3-70B"


class Predictor:
    """What a step takes, for as much as vidur asks of a predictor. `figures` is set before a simulator is made: vidur's
    registry makes the predictor itself, from its own configuration."""

    figures: dict[str, float]

    def __init__(self, **_configs: object) -> None:
        self._made = import_module("vidur._native.entities").ExecutionTime

    def get_execution_time(self, batch: Any, _stage: int) -> Any:
        """The larger of compute and reading the weights, plus KV, plus what every token and step adds."""
        figures, prompt, lanes = self.figures, batch.num_prefill_tokens, batch.num_decode_tokens
        compute_s = figures["prompt_token_compute_s"] * prompt + figures["lane_compute_s"] * lanes
        step_s = max(compute_s, figures["weights_s"]) + figures["kv_token_s"] * batch.total_num_kv_tokens
        step_s += figures["prompt_token_s"] * prompt + figures["lane_s"] * lanes
        step_s += figures["prompt_step_s" if prompt else "decode_step_s"]
        # One layer whose only part takes the whole step, in milliseconds.
        return self._made(1, *([0.0] * 2), step_s * 1e3, *([0.0] * 11))


def main() -> None:
    """Play the rows as often as asked; the least CPU time counts."""
    logging.disable(logging.INFO)
    task = json.loads(Path("task.json").read_text())
    Predictor.figures = task["figures"]
    entities, simulators = import_module("vidur.entities"), import_module("vidur.simulator")
    _register(entities.Request, task["rows"])
    times = []
    for _ in range(task["rounds"]):
        simulator = simulators.Simulator(_config(task))
        arrivals = [event._request for _, event in simulator._event_queue]
        # Batches are numbered through: taking a number before and after counts those between.
        first = entities.Batch.generate_id()
        began_s = time.process_time()
        simulator.run()
        times.append(time.process_time() - began_s)
        steps = entities.Batch.generate_id() - first - 1
    unfinished = sum(not request.completed for request in arrivals)
    latency_s = sum(request.completed_at - request.arrived_at for request in arrivals) / len(arrivals)
    result = {"cpu_s": min(times), "steps": steps, "unfinished": unfinished, "latency_s": latency_s}
    Path("result.json").write_text(json.dumps(result))


def _register(request: Any, rows: list[list[int]]) -> None:
    """Put the predictor and the rows where vidur looks for its own."""
    types = import_module("vidur.types")
    predictors = import_module("vidur.execution_time_predictor").ExecutionTimePredictorRegistry
    predictors.unregister(types.ExecutionTimePredictorType.RANDOM_FORREST)
    predictors.register(types.ExecutionTimePredictorType.RANDOM_FORREST, Predictor)

    class Rows:
        def __init__(self, _config: object) -> None:
            pass

        def generate(self) -> list[Any]:
            return [request(at / 1e9, prompt, length) for at, prompt, length in rows]

    generators = import_module("vidur.request_generator").RequestGeneratorRegistry
    generators.unregister(types.RequestGeneratorType.SYNTHETIC)
    generators.register(types.RequestGeneratorType.SYNTHETIC, Rows)


def _config(task: dict[str, Any]) -> Any:
    """One replica of 4 H100 with the room, the slots and the step budget of our engine, and no output."""
    config = import_module("vidur.config.config")
    quiet = [f"store_{kind}_metrics" for kind in ("request", "batch", "utilization")]
    metrics = config.MetricsConfig(
        write_metrics=False,
        enable_chrome_trace=False,
        store_plots=False,
        output_dir="output",
        **dict.fromkeys(quiet, False),
    )
    replica = config.ReplicaConfig(model_name=MODEL, num_pipeline_stages=1, tensor_parallel_size=4)
    cluster = config.ClusterConfig(
        replica_config=replica,
        # Round robin, its default, counts replicas from 0, as only the first simulator of a process does.
        global_scheduler_config=config.LORGlobalSchedulerConfig(),
        cache_config=config.CacheConfig(block_size=task["block_tokens"], num_blocks=task["blocks"]),
        replica_scheduler_config=config.SarathiSchedulerConfig(
            batch_size_cap=task["slots"], chunk_size=task["step_tokens"]
        ),
    )
    return config.SimulationConfig(cluster_config=cluster, metrics_config=metrics)


if __name__ == "__main__":
    main()
