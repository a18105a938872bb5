"""Runs of a replay: one policy, one seed each, in this process or several beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from app.config.load import LoadedConfig, load
from app.metering.types import Bill, RequestRecord
from app.replay import traces
from app.replay.baselines import baselines
from app.replay.books import Books
from app.replay.journal import JournalDesk
from app.replay.load import scaled, span
from app.replay.oracle import Oracle
from app.replay.seeds import ORACLE
from app.replay.simulation import Simulation
from app.replay.stage import Stage, stage
from app.replay.traces import Trace
from app.routing.predictor import forecaster

ORACLE_BASE = "cheapest-slo"
"""The policy that the oracle runs with the engines' own forecast."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed: a trace on a fleet. Everything that a worker needs to do the same again."""

    trace: Path
    config: Path | None
    model: str | None = None
    load: float = 1.0
    limit: int | None = None
    strict: bool = False


class Run(NamedTuple):
    """One of its runs."""

    policy: str
    seed: int
    journal: Path | None = None


class UnknownName(LookupError):
    """A model or policy that the configuration does not have."""


class Ledgered:
    """The ledger's end of a run: rows are made and counted, not kept."""

    def __init__(self) -> None:
        self.rows = 0

    def append(self, record: RequestRecord, bill: Bill) -> None:
        """Take a row."""
        self.rows += 1


@lru_cache(maxsize=2)
def trace_of(replay: Replay) -> Trace:
    """The trace, read once a process.

    Raises: TraceError; OSError.
    """
    return traces.read(replay.trace, replay.limit, strict=replay.strict)


@lru_cache(maxsize=2)
def config_of(path: Path | None) -> LoadedConfig:
    """The configuration, read once a process.

    Raises: ConfigError.
    """
    return load(path)


def model_of(replay: Replay, loaded: LoadedConfig) -> str:
    """The model that requests ask for where the trace does not name one of the configuration's.

    Raises: UnknownName.
    """
    models = loaded.config.models
    if replay.model is None:
        return next(iter(models))
    for name, config in models.items():
        if replay.model == name or replay.model in config.aliases:
            return name
    raise UnknownName(f"there is no model '{replay.model}' (there are: {', '.join(models)})")


def policies_of(loaded: LoadedConfig) -> list[str]:
    """Every policy there is, the default one first; the oracle is none of them."""
    names = dict.fromkeys([loaded.config.routing.default_policy, *loaded.config.policies, *baselines()])
    return list(names)


def play(replay: Replay, run: Run) -> dict[str, Any]:
    """One run, summed up.

    Raises: TraceError; ConfigError; BackendConfigError; UnknownName; OSError.
    """
    loaded, trace = config_of(replay.config), trace_of(replay)
    stood = stage(loaded, run.seed, Ledgered())
    oracle = _oracle(stood, loaded) if run.policy == ORACLE else None
    if run.policy not in stood.fleet.policies:
        names = ", ".join([*policies_of(loaded), ORACLE])
        raise UnknownName(f"there is no policy '{run.policy}' (there are: {names})")
    arrivals = scaled(trace.arrivals, replay.load, run.seed)
    if replay.model is not None:
        arrivals = [arrival._replace(model=None) for arrival in arrivals]
    books = Books(list(stood.servers))
    with ExitStack() as opened:
        desk = None
        if run.journal is not None:
            desk = JournalDesk(stood.fleet, opened.enter_context(run.journal.open("w", encoding="utf-8")))
        model = model_of(replay, loaded)
        simulation = Simulation(stood, run.policy, model, books.add, desk, oracle)
        simulation.run(arrivals)
    return books.summary(span(trace.arrivals), simulation.worked())


def _oracle(stood: Stage, loaded: LoadedConfig) -> Oracle:
    """`cheapest-slo` with the engines' forecast for its predictions, as policy `oracle`."""
    fleet, routing = stood.fleet, loaded.config.routing
    if ORACLE_BASE not in fleet.policies:
        raise UnknownName(f"the oracle needs the policy '{ORACLE_BASE}', which this configuration does not have")
    oracle = Oracle(stood.servers, forecaster(routing.cost_basis), routing.slo_margin)
    made = replace(fleet.policies[ORACLE_BASE], name=ORACLE, forecast=oracle.predict)
    fleet.policies = {**fleet.policies, ORACLE: made}
    return oracle


def play_all(
    replay: Replay, runs: Sequence[Run], jobs: int, done: Callable[[], None]
) -> dict[str, dict[int, dict[str, Any]]]:
    """Every run, by policy and seed in the order given; `done` is called after each.

    Raises: as `play`.
    """
    found = dict(_each(replay, runs, jobs, done))
    results: dict[str, dict[int, dict[str, Any]]] = {}
    for run in runs:
        results.setdefault(run.policy, {})[run.seed] = found[run]
    return results


def _each(
    replay: Replay, runs: Sequence[Run], jobs: int, done: Callable[[], None]
) -> Iterator[tuple[Run, dict[str, Any]]]:
    if jobs == 1 or len(runs) == 1:
        for run in runs:
            yield run, play(replay, run)
            done()
        return
    # A child that is spawned has no copy of this process's threads' locks.
    pool = ProcessPoolExecutor(min(jobs, len(runs)), mp_context=get_context("spawn"))
    try:
        # The oracle takes longest, so it begins first.
        asked = {
            pool.submit(play, replay, run): run
            for run in chain((r for r in runs if r.policy == ORACLE), (r for r in runs if r.policy != ORACLE))
        }
        for finished in as_completed(asked):
            yield asked[finished], finished.result()
            done()
    finally:
        pool.shutdown(cancel_futures=True)
