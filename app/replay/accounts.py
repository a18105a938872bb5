"""What a run's attempts and requests come to: ledger rows through the gateway's meter, and a `Served` each."""

from __future__ import annotations

from collections.abc import Callable, Container
from itertools import pairwise

from app.dispatch.flight import AttemptEnd
from app.metering.cost import ChipHourRates, price_of_time
from app.metering.types import RequestRecord
from app.replay.records import NOWHERE, Served, Worked
from app.replay.ride import Ride, Try
from app.replay.stage import Stage
from backends.errors import BackendError

UNSEEN = (0.0, 0.0, 0.0, 0.0)
NS = 1_000_000_000
WALL_START_NS = 1_700_000_000 * NS


class Accounts:
    """Settles attempts, and tells of each request as it ends: `told(served)`. `ended` counts those."""

    def __init__(self, stage: Stage, told: Callable[[Served], None]) -> None:
        self.ended = 0
        self._stage = stage
        self._told = told
        self._answers = [0] * len(stage.servers)
        self._effective_nusd = [0] * len(stage.servers)
        self._busy_ns: list[list[int]] = [[0] for _ in stage.servers]

    def settle(self, attempt: Try, end: AttemptEnd, now_ns: int, error: BackendError | None = None) -> None:
        """An attempt has ended: give its place back, learn from it, bill it."""
        flight, ride, server = attempt.flight, attempt.ride, attempt.server
        flight.ended(end, now_ns, error)
        usage = attempt.usage()
        flight.learn(usage, 1, 0)
        decision, view, prediction, slo = flight.decision, flight.chosen.view, flight.chosen.prediction, ride.route.slo
        first_ns, arrived_ns = flight.first_token_ns, ride.arrived_ns
        bill = self._stage.meter.record(
            RequestRecord(
                f"r{ride.number}",
                flight.number,
                WALL_START_NS + now_ns,
                "default",
                "chat",
                True,
                ride.route.model,
                self._stage.config_hash,
                end,
                decision.reason if error is None else type(error).__name__,
                "off",
                usage,
                server.name,
                view.substrate,
                decision.policy,
                decision.id,
                attempt.share(),
                None if first_ns is None else (first_ns - arrived_ns) / 1e9,
                flight.tpot_s(usage.completion_tokens),
                (now_ns - arrived_ns) / 1e9,
                prediction.ttft_s,
                prediction.tpot_s,
                prediction.cost_nusd,
                slo.ttft_s,
                slo.tpot_s,
                slo.e2e_s,
            )
        )
        nusd = None if bill.effective is None else bill.effective.total_nusd
        if nusd is None or ride.effective_nusd is None:
            ride.effective_nusd = None
        else:
            ride.effective_nusd += nusd
            self._effective_nusd[server.index] += nusd
        if server.owned:
            cost = view.cost
            ride.forecast_nusd += usage.prompt_tokens * cost.prompt_nusd
            ride.forecast_nusd += usage.completion_tokens * cost.completion_nusd
        else:
            ride.spend_nusd += nusd or 0

    def answered(self, ride: Ride, attempt: Try, now_ns: int) -> None:
        """The request has its whole answer."""
        ride.done = True
        self.ended += 1
        flight, server = attempt.flight, attempt.server
        self._answers[server.index] += 1
        usage, slo, chosen = attempt.usage(), ride.route.slo, flight.chosen
        assert flight.first_token_ns is not None
        ttft_s = (flight.first_token_ns - ride.arrived_ns) / 1e9
        tpot_s, e2e_s = flight.tpot_s(usage.completion_tokens), (now_ns - ride.arrived_ns) / 1e9
        good = (
            (slo.ttft_s is None or ttft_s <= slo.ttft_s)
            and (slo.tpot_s is None or tpot_s is None or tpot_s <= slo.tpot_s)
            and (slo.e2e_s is None or e2e_s <= slo.e2e_s)
        )
        prediction = chosen.prediction
        self._told(
            Served(
                ride.number,
                ride.arrived_ns / 1e9,
                ride.arrival.prompt_tokens,
                usage.cached_tokens,
                usage.completion_tokens,
                server.index,
                ride.attempts,
                True,
                flight.decision.reason,
                ttft_s,
                tpot_s,
                e2e_s,
                slo != (None, None, None),
                good,
                ride.effective_nusd,
                ride.forecast_nusd,
                ride.spend_nusd,
                chosen.in_flight,
                (prediction.ttft_s, prediction.ttft_q90_s, prediction.tpot_s, prediction.tpot_q90_s),
                flight.ttft_s(),
            )
        )

    def refused(self, ride: Ride, reason: str) -> None:
        """The request ends without an answer."""
        ride.done = True
        self.ended += 1
        arrival = ride.arrival
        self._told(
            Served(
                ride.number, ride.arrived_ns / 1e9, arrival.prompt_tokens, 0, 0, NOWHERE, ride.attempts, False,
                reason, None, None, None, ride.route.slo != (None, None, None), False,
                ride.effective_nusd, ride.forecast_nusd, ride.spend_nusd, 0, UNSEEN, None,
            )
        )  # fmt: skip

    def slice(self, now_ns: int) -> None:
        """Write down how long each backend has been at work."""
        for server in self._stage.servers.values():
            server.engine.advance(now_ns)
            self._busy_ns[server.index].append(server.engine.busy_and_idle_ns(now_ns)[0])

    def worked(self, now_ns: int, slice_ns: int, models: Container[str]) -> list[Worked]:
        """What each backend of these models did until now."""
        rows = []
        for server in self._stage.servers.values():
            if server.model not in models:
                continue
            server.engine.advance(now_ns)
            busy_ns, idle_ns = server.engine.busy_and_idle_ns(now_ns)
            rates, busy = server.rates, self._busy_ns[server.index]
            owned = price_of_time(rates, busy_ns + idle_ns) / NS if isinstance(rates, ChipHourRates) else None
            rows.append(
                Worked(
                    server.name,
                    self._stage.fleet.backends[server.name].info.substrate,
                    busy_ns / NS,
                    idle_ns / NS,
                    self._answers[server.index],
                    owned,
                    self._effective_nusd[server.index] / NS,
                    server.engine.preemptions,
                    tuple([(after - before) / slice_ns for before, after in pairwise(busy)]),
                )
            )
        return rows
