"""The gateway's own parts, set up for virtual time: a composition root, as `app.main` is for real time.

Everything that decides, reserves, learns and bills is what `app.wiring` builds. Only what waits is left out: nothing is
started, and the engines inside the emulated backends are played by `simulation`. Live backends cannot be replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from app import wiring
from app.config.caching import CacheOff
from app.config.load import LoadedConfig, emulated_spec
from app.config.models import EmulatedBackendConfig, SharingOff
from app.dispatch.build import terms
from app.dispatch.terms import Terms
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.metering import cost
from app.metering.meter import Meter, PriceTable, Rows
from app.planning import Planner
from app.replay.baselines import baselines
from app.replay.formats import MOONCAKE_BLOCK_TOKENS
from backends.clock import VirtualClock
from backends.emulator.backend import EmulatedBackend
from backends.emulator.chain import Chain
from backends.emulator.cold import ColdEngine
from backends.emulator.engine import Engine
from backends.emulator.jobs import Job
from backends.registry import build

RECEIPTS_KEPT = 64
SEED_STRIDE = 1_000_003


class Server:
    """An emulated backend without its asyncio: the engine, and what it refuses to take.

    `room` is how many sequences may run or wait; `armed_ns` when its next event is due, as far as the loop knows.
    """

    __slots__ = (
        "armed_ns", "block_tokens", "context_tokens", "down", "engine", "index", "model", "name", "news", "owned",
        "rates", "room",
    )  # fmt: skip

    def __init__(self, index: int, backend: EmulatedBackend, rates: cost.Rates) -> None:
        deployment = next(iter(backend.info.deployments.values()))
        self.index = index
        self.name = backend.info.name
        self.model = deployment.model
        self.context_tokens = deployment.context_tokens
        self.room = backend.room
        self.block_tokens = backend.prefix_block_tokens
        self.rates = rates
        self.owned = isinstance(rates, cost.ChipHourRates)
        self.engine: Engine = backend.engine
        self.news: list[Job] = []
        self.engine.news = self.news
        self.armed_ns: int | None = None
        self.down = False

    def prefix(self, blocks: tuple[int, ...], prompt_tokens: int) -> Chain | None:
        """The names of the prompt's whole KV blocks: each block of the trace is cut into blocks of the engine's."""
        if self.block_tokens is None or not blocks:
            return None
        parts = MOONCAKE_BLOCK_TOKENS // self.block_tokens
        return Chain(blocks, parts, 0, prompt_tokens // self.block_tokens) if parts else None

    def wake(self, now_ns: int) -> None:
        """Have it warm up, if it is cold; the engine has been advanced to now."""
        if isinstance(self.engine, ColdEngine):
            self.engine.wake(now_ns)

    def fits_context(self, prompt_tokens: int) -> bool:
        """Whether a token of answer would fit behind the prompt."""
        return self.context_tokens - prompt_tokens >= 1


class EngineTokens:
    """When tokens come out of an engine, as a gateway that relays them would know."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def last_ns(self, now_ns: int) -> int:
        """When the last one came, as of now."""
        return self._engine.last_token_ns(now_ns)


@dataclass(slots=True)
class Stage:
    """What one run plays on; every run has its own."""

    fleet: Fleet
    planner: Planner
    meter: Meter
    servers: Mapping[str, Server]
    terms: Terms
    config_hash: str
    left_out: tuple[str, ...]
    """Live backends, which are not replayed."""


def stage(loaded: LoadedConfig, seed: int, rows: Rows) -> Stage:
    """A fresh stage: `seed` moves every engine's noise and the router's tie-breaks; `rows` takes the ledger's rows.

    Raises: ConfigError; BackendConfigError.
    """
    config = loaded.config
    emulated = tuple(each for each in config.backends if isinstance(each, EmulatedBackendConfig))
    routing = config.routing.model_copy(
        update={"seed": config.routing.seed + SEED_STRIDE * seed, "receipts_kept": RECEIPTS_KEPT}
    )
    policies = {**baselines(), **config.policies}
    alone = {"cache": CacheOff(type="off"), "sharing": SharingOff()}
    update = {"backends": emulated, "routing": routing, "policies": policies, **alone}
    loaded = replace(loaded, config=config.model_copy(update=update))
    clock = VirtualClock()
    backends: dict[str, EmulatedBackend] = {}
    for each in emulated:
        spec = emulated_spec(each)
        emulation = replace(spec.emulation, seed=spec.emulation.seed + SEED_STRIDE * seed)
        made = build(replace(spec, emulation=emulation), loaded.sheets, clock)
        assert isinstance(made, EmulatedBackend)
        backends[each.name] = made
    gateway = wiring.build(loaded, clock, backends)
    fleet = gateway.fleet
    fleet.receipts = Receipts(RECEIPTS_KEPT, "d-")
    for name, backend in backends.items():
        fleet.state.load(name).heard = EngineTokens(backend.engine)
    rates = {each.name: cost.rates(each.pricing, each.chips) for each in emulated}
    references = {
        name: view.cost
        for name, model in config.models.items()
        for view in fleet.snapshot.views.get(name, ())
        if view.name == model.reference_backend
    }
    return Stage(
        fleet,
        gateway.service.planner,
        Meter(PriceTable(rates, references), gateway.metrics, rows),
        {name: Server(index, backend, rates[name]) for index, (name, backend) in enumerate(backends.items())},
        terms(loaded.config),
        loaded.hash,
        tuple(each.name for each in config.backends if each not in emulated),
    )
