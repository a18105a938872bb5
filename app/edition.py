"""Everything that follows from one configuration. A reload makes another and lets this one's requests finish here.

What outlives a configuration (metrics, ledger, what was learned, backends whose description is the same) is shared by
an edition and its successor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from app.api.hot import HotEndpoints
from app.api.response_headers import ResponseHeaders
from app.cache.tiers import AnswerCache
from app.config.load import LoadedConfig
from app.dispatch.terms import Terms
from app.fleet.build import references, snapshot
from app.fleet.fleet import Fleet
from app.metering import cost
from app.metering.metrics import BackendGauge
from app.routing.types import CostForecast
from app.service import CompletionService
from backends.base import Backend
from backends.clock import Clock


class Spent(NamedTuple):
    """Engine time of a backend that was paid at earlier prices, in nanoseconds and nano-USD."""

    engine_ns: int = 0
    nusd: int = 0


@dataclass(frozen=True, slots=True)
class Edition:
    """`spent` is what running backends had cost when this configuration's prices began, `references` the forecast of
    each model's reference backend."""

    loaded: LoadedConfig
    fleet: Fleet
    cache: AnswerCache | None
    service: CompletionService
    hot: HotEndpoints
    headers: ResponseHeaders
    rates: Mapping[str, cost.Rates]
    spent: Mapping[str, Spent]
    references: dict[str, CostForecast]
    dispatch: Terms
    clock: Clock

    def know_backends(self) -> None:
        """Its backends have started: some tell only then what they serve, and how fast."""
        fleet = self.fleet
        fleet.snapshot = snapshot(self.loaded, fleet.backends, self.rates, fleet.drained_by_hand)
        fleet.health.know(fleet.snapshot.views)
        self.references.update(references(self.loaded.config, fleet.snapshot))

    def spending(self, name: str) -> Spent:
        """What a backend has cost up to now, for its next price to go on from."""
        return self._spending(name, _engine_ns(self.fleet.backends[name]))

    def gauges(self) -> Iterator[BackendGauge]:
        """What /metrics tells of each backend."""
        for each in self.loaded.config.backends:
            backend = self.fleet.backends[each.name]
            now, load, rate = backend.snapshot(), self.fleet.state.loads.get(each.name), self.rates[each.name]
            provisioned_ns = now.busy_ns + now.idle_ns
            # A live service tells no engine time, and what is not known is not counted as zero.
            owned = isinstance(rate, cost.ChipHourRates) and backend.info.mode == "emulated"
            chips, now_ns = each.chips or 0, self.clock.now_ns()
            health, stands = self.fleet.health.look(each.name, now_ns), self.fleet.warmth(each.name, now_ns)
            yield BackendGauge(
                each.name,
                backend.info.substrate,
                load.sequences if load else 0,
                now.waiting,
                now.busy_ns * chips,
                provisioned_ns * chips,
                self._spending(each.name, provisioned_ns).nusd if owned else None,
                None if (power := backend.info.power) is None else power.energy_j(now.busy_ns, now.idle_ns),
                ("closed", "half_open", "open").index(health.breaker),
                health.gate,
                health.ejections,
                None if stands is None else ("cold", "warming", "warm").index(stands.warmth),
                self.fleet.caps.slots(each.name),
            )

    def _spending(self, name: str, engine_ns: int) -> Spent:
        rate, before = self.rates[name], self.spent.get(name, Spent())
        if not isinstance(rate, cost.ChipHourRates):
            return Spent(engine_ns, before.nusd)
        return Spent(engine_ns, before.nusd + cost.price_of_time(rate, engine_ns - before.engine_ns))


def _engine_ns(backend: Backend) -> int:
    now = backend.snapshot()
    return now.busy_ns + now.idle_ns
