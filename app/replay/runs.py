"""Runs of a replay: one policy, one seed each, in this process or several beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from app.aliases import table
from app.config.load import LoadedConfig, load
from app.metering.types import Bill, RequestRecord
from app.replay import traces
from app.replay.baselines import baselines
from app.replay.books import Books
from app.replay.bound import lower_bound
from app.replay.capacity import BAR, Attained, capacity, described
from app.replay.faults import Fault
from app.replay.formats import Arrival
from app.replay.journal import JournalDesk, Lines
from app.replay.load import scaled, span
from app.replay.names import named
from app.replay.oracle import Oracle
from app.replay.records import Served
from app.replay.seeds import ORACLE
from app.replay.simulation import Simulation
from app.replay.stage import Stage, stage
from app.replay.tally import Place
from app.replay.traces import Trace
from app.replay.workers import calm as calm
from app.replay.workers import deaf, workers
from app.routing.predictor import forecaster

ORACLE_MARGIN = 0.05
"""The engines' forecast knows no noise; this much of a promise is left to it."""

ORACLE_BASE = "cheapest-slo"
"""The policy that the oracle runs with the engines' own forecast."""

SLICES = 100
"""Parts of the trace's span for which utilisation is told."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed: a trace on a fleet. Everything that a worker needs to do the same again."""

    trace: Path
    config: Path | None
    model: str | None = None
    load: float = 1.0
    limit: int | None = None
    strict: bool = False
    faults: tuple[Fault, ...] = ()


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
    """The model (or alias) that requests ask for where the trace does not name one of the configuration's.

    Raises: UnknownName.
    """
    models = loaded.config.models
    if replay.model is None:
        return next(iter(models))
    if replay.model in models or replay.model in table(models, loaded.config.aliases):
        return replay.model
    raise UnknownName(f"there is no model '{replay.model}' (there are: {', '.join(models)})")


def policies_of(loaded: LoadedConfig) -> list[str]:
    """Every policy there is, the default one first; the oracle is none of them."""
    names = dict.fromkeys([loaded.config.routing.default_policy, *loaded.config.policies, *baselines()])
    return list(names)


CAPACITY_REQUESTS, CAPACITY_S = 2000, 60.0
"""A load is tried with that many requests, or as many as come in that time if those are more: the first of them."""


class Set(NamedTuple):
    """A run ready to be played."""

    stage: Stage
    simulation: Simulation
    books: Books
    arrivals: list[Arrival]
    model: str
    span_s: float
    unknown_models: Mapping[str, int]
    lines: Lines | None = None


def prepared(replay: Replay, run: Run, opened: ExitStack, told: Callable[[Served], None] | None = None) -> Set:
    """Everything one run needs; what it opens is closed by `opened`. `told` hears of each request before the books do.

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
    lines = None if run.journal is None else opened.enter_context(Lines(run.journal))
    desk = None if lines is None else JournalDesk(stood.fleet, lines)
    model = model_of(replay, loaded)
    planner = stood.planner
    arrivals, unknown_models = named(arrivals, planner.models, planner.aliases, model)
    simulation = Simulation(stood, run.policy, model, _both(told, books.add), desk, oracle)
    if unknown := [fault.backend for fault in replay.faults if fault.backend not in stood.servers]:
        raise UnknownName(f"there is no emulated backend '{unknown[0]}' (there are: {', '.join(stood.servers)})")
    simulation.schedule(replay.faults)
    return Set(stood, simulation, books, arrivals, model, span(trace.arrivals), unknown_models, lines)


def _both(told: Callable[[Served], None] | None, add: Callable[[Served], None]) -> Callable[[Served], None]:
    if told is None:
        return add

    def each(served: Served) -> None:
        told(served)
        add(served)

    return each


def play(replay: Replay, run: Run, told: Callable[[Served], None] | None = None) -> dict[str, Any]:
    """One run, summed up; the oracle's has the lower bound with it. `told` hears of each request as it ends.

    `journal_problem` is there where decisions could not all be written down.

    Raises: TraceError; ConfigError; BackendConfigError; UnknownName; OSError.
    """
    with ExitStack() as opened:
        made = prepared(replay, run, opened, told)
        made.simulation.run(made.arrivals, made.span_s / SLICES)
        summary = made.books.summary(made.span_s, made.simulation.worked())
        summary["unknown_models"] = dict(made.unknown_models)
    if made.lines is not None and made.lines.problem is not None:
        summary["journal_problem"] = str(made.lines.problem)
    if run.policy == ORACLE:
        fresh = stage(config_of(replay.config), run.seed, Ledgered())
        bound = lower_bound(fresh, made.arrivals, made.model)
        summary |= {"lower_bound": bound.usd_per_1k_good, "impossible": bound.impossible}
    return summary


def capacity_of(replay: Replay, seed: int, told: Callable[[Attained], None]) -> dict[str, Any]:
    """The fleet's capacity on the trace, as the oracle finds it; `told` hears of every load tried.

    Raises: as `play`.
    """
    trace = trace_of(replay)

    def attained(load: float) -> Attained:
        with ExitStack() as opened:
            made = prepared(replace(replay, load=load), Run(ORACLE, seed), opened)
            books, arrivals = made.books, made.arrivals
            until_s = max(CAPACITY_S, arrivals[min(len(arrivals), CAPACITY_REQUESTS) - 1].at_s)
            arrivals = [arrival for arrival in arrivals if arrival.at_s <= until_s]
            offered = len(arrivals)
            missed_at_most = (1.0 - BAR) * offered

            def while_it_may_be_kept() -> Iterator[Arrival]:
                for arrival in arrivals:
                    if books.promised - books.good > missed_at_most:
                        return
                    yield arrival

            made.simulation.run(while_it_may_be_kept())
        # Whoever was not played any more is counted as well served: broken off, it can only have become worse.
        promised = max(1, offered - (books.offered - books.promised))
        found = Attained(load, 1.0 - (books.promised - books.good) / promised, books.offered == offered, offered)
        told(found)
        return found

    load, tried = capacity(attained)
    return {**described(load, tried, len(trace.arrivals) / span(trace.arrivals)), "seed": seed}


def _oracle(stood: Stage, loaded: LoadedConfig) -> Oracle:
    """`cheapest-slo` with the engines' forecast for its predictions, as policy `oracle`."""
    fleet, routing = stood.fleet, loaded.config.routing
    if ORACLE_BASE not in fleet.policies:
        raise UnknownName(f"the oracle needs the policy '{ORACLE_BASE}', which this configuration does not have")
    oracle = Oracle(stood.servers, forecaster(routing.cost_basis), ORACLE_MARGIN)
    made = replace(
        fleet.policies[ORACLE_BASE],
        name=ORACLE,
        forecast=oracle.predict,
        slo_margin=ORACLE_MARGIN,
        exploration=None,
        thorough=True,
    )
    fleet.policies = {**fleet.policies, ORACLE: made}
    return oracle


Results = dict[str, dict[int, dict[str, Any]]]
"""Summaries of runs, by policy and seed."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while runs were played: those that had finished, of how many."""

    def __init__(self, results: Results, finished: int, runs: int) -> None:
        super().__init__()
        self.results, self.finished, self.runs = results, finished, runs


def play_all(
    replay: Replay, runs: Sequence[Run], jobs: int, done: Callable[[], None], places: Sequence[Place] | None = None
) -> Results:
    """Every run, by policy and seed in the order given; `done` is called after each, which counts its requests in its
    place meanwhile.

    Raises: as `play`; Interrupted.
    """
    found: dict[Run, dict[str, Any]] = {}
    try:
        for run, summary in _each(replay, runs, jobs, places or [None] * len(runs)):
            found[run] = summary
            done()
    except KeyboardInterrupt:
        raise Interrupted(_in_order(runs, found), len(found), len(runs)) from None
    return _in_order(runs, found)


def _in_order(runs: Sequence[Run], found: Mapping[Run, dict[str, Any]]) -> Results:
    results: Results = {}
    for run in runs:
        if run in found:
            results.setdefault(run.policy, {})[run.seed] = found[run]
    return results


def _counted(replay: Replay, run: Run, place: Place | None) -> dict[str, Any]:
    if place is None:
        return play(replay, run)
    with place.counting() as count:
        return play(replay, run, count)


def _each(
    replay: Replay, runs: Sequence[Run], jobs: int, places: Sequence[Place | None]
) -> Iterator[tuple[Run, dict[str, Any]]]:
    placed = list(zip(runs, places, strict=True))
    if jobs == 1 or len(runs) == 1:
        calm()
        for run, place in placed:
            yield run, _counted(replay, run, place)
        return
    with workers(min(jobs, len(runs))) as pool:
        # The oracle takes longest, so it begins first.
        order = sorted(placed, key=lambda each: each[0].policy != ORACLE)
        with deaf():
            asked = {pool.submit(_counted, replay, run, place): run for run, place in order}
        for finished in as_completed(asked):
            yield asked[finished], finished.result()
