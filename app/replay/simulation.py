"""Real traffic in virtual time: a heap of engine events and timers between arrivals, and no clock.

What is asked of whom, what is reserved, learned and billed is the gateway's own code; here commands of the dispatch
machine are carried out on engines instead of connections. Everything happens in order of time; at the same moment
engines come before arrivals, as `Engine.advance` has it. Nothing here looks at how a request will turn out: lengths of
answers go to engines alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from math import inf, isfinite

from app.call import NO_OPTIONS
from app.dispatch.commands import Ask, Command, Drop, Refuse, Serve, Wake
from app.dispatch.flight import AttemptEnd, Flight
from app.dispatch.machine import Desk, Dispatch
from app.errors import ApiError
from app.metering.cost import ChipHourRates, price_of_time
from app.metering.types import RequestRecord
from app.planning import promise
from app.replay.formats import Arrival
from app.replay.oracle import Oracle
from app.replay.records import NOWHERE, Served, Worked
from app.replay.ride import Failure, Ride, Try
from app.replay.stage import Server, Stage
from app.routing.types import RouteRequest, Slo
from backends.emulator.jobs import Job
from backends.errors import BackendError, ContextExceeded, Saturated, Unavailable

UNSEEN = (0.0, 0.0, 0.0, 0.0)
NS = 1_000_000_000
WALL_START_NS = 1_700_000_000 * NS


class Simulation:
    """One run of one policy. `told(served)` takes each request as it ends, `desk` decides (the fleet if None)."""

    def __init__(
        self,
        stage: Stage,
        policy: str,
        model: str,
        told: Callable[[Served], None],
        desk: Desk | None = None,
        oracle: Oracle | None = None,
    ) -> None:
        self._stage = stage
        self._fleet = stage.fleet
        self._policy = policy
        self._model = model
        self._told = told
        self._desk: Desk = stage.fleet if desk is None else desk
        self._oracle = oracle
        self._servers = stage.servers
        self._playing: dict[Job, Try] = {}
        self._heap: list[tuple[int, int, Server | Ride]] = []
        self._order = 0
        self._number = 0
        self._ended_at: list[int] = [0] * len(stage.servers)
        self._effective: list[int] = [0] * len(stage.servers)
        self._busy_ns: list[list[int]] = [[0] for _ in stage.servers]
        self._slice_ns = 0
        if oracle is not None:
            oracle.promised = self._promised
        self.now_ns = 0
        self.models: set[str] = set()
        """Models that were asked for."""

    def run(self, arrivals: Iterable[Arrival], slice_s: float = inf) -> None:
        """Play the arrivals, in order of time, to the end of the last request; every `slice_s` it is written down how
        long each backend has been at work."""
        slice_at_s = slice_s
        self._slice_ns = int(slice_s * NS) if isfinite(slice_s) else 0
        for arrival in arrivals:
            while arrival.at_s >= slice_at_s:
                self._slice(int(slice_at_s * NS))
                slice_at_s += slice_s
            at_ns = int(arrival.at_s * NS)
            self.until(at_ns)
            self.now_ns = at_ns
            self._arrive(arrival, at_ns)
        self.until(None)

    def until(self, until_ns: int | None) -> None:
        """Everything that happens by then; None = until nothing does any more."""
        heap = self._heap
        while heap and (until_ns is None or heap[0][0] <= until_ns):
            at_ns, _, who = heappop(heap)
            if type(who) is Server:
                if who.armed_ns != at_ns:
                    continue
                self.now_ns = at_ns
                who.armed_ns = None
                who.engine.advance(at_ns)
                self._rearm(who)
                if who.news:
                    self._tell(who, at_ns)
            elif type(who) is Ride and who.wake_ns == at_ns and not who.done:
                self.now_ns = at_ns
                who.wake_ns = None
                self._look_at(who)
                self._carry_out(who, who.machine.wake(at_ns), at_ns)

    def _slice(self, at_ns: int) -> None:
        self.until(at_ns)
        for server in self._servers.values():
            server.engine.advance(at_ns)
            self._busy_ns[server.index].append(server.engine.busy_and_idle_ns(at_ns)[0])

    def worked(self) -> list[Worked]:
        """What each backend of a model that was asked for did until now."""
        rows = []
        for server in self._servers.values():
            if server.model not in self.models:
                continue
            server.engine.advance(self.now_ns)
            busy_ns, idle_ns = server.engine.busy_and_idle_ns(self.now_ns)
            rates, busy = server.rates, self._busy_ns[server.index]
            owned = price_of_time(rates, busy_ns + idle_ns) / NS if isinstance(rates, ChipHourRates) else None
            rows.append(
                Worked(
                    server.name,
                    self._fleet.backends[server.name].info.substrate,
                    busy_ns / NS,
                    idle_ns / NS,
                    self._ended_at[server.index],
                    owned,
                    self._effective[server.index] / NS,
                    server.engine.preemptions,
                    tuple([(after - before) / self._slice_ns for before, after in pairwise(busy)]),
                )
            )
        return rows

    def _arrive(self, arrival: Arrival, now_ns: int) -> None:
        route = self._route(arrival, now_ns)
        self._number += 1
        ride = Ride(self._number, arrival, now_ns, route, self._machine(route))
        self._look_at(ride)
        self._carry_out(ride, ride.machine.begin(now_ns), now_ns)

    def _machine(self, route: RouteRequest) -> Dispatch:
        """The dispatch of one request: the only place that knows how one is made."""
        return Dispatch(route, "chat", self._desk, self._stage.max_attempts)

    def _route(self, arrival: Arrival, now_ns: int) -> RouteRequest:
        """What the router may know, as `Planner.plan` makes it: exact prompts (a token is a word), learned answers."""
        planner = self._stage.planner
        model = arrival.model
        if model is None or model not in planner.models:
            model = self._model
        config = planner.models[model]
        self.models.add(model)
        slo_class = arrival.slo_class
        if slo_class is None or slo_class not in planner.slo_classes:
            slo_class = config.slo
        length = self._fleet.state.lengths.get(model)
        limit, prompt_tokens = config.default_max_tokens, arrival.prompt_tokens
        expected = 256.0 if length is None else length.completion_tokens
        return RouteRequest(
            model,
            self._policy,
            prompt_tokens,
            prompt_tokens,
            max(1, round(min(limit, expected))),
            max(limit, arrival.completion_tokens),
            promise(planner.slo_classes[slo_class], NO_OPTIONS, prompt_tokens),
            slo_class=slo_class,
            priority=arrival.priority,
            arrived_ns=now_ns,
            blocks=arrival.blocks,
        )

    def _look_at(self, ride: Ride) -> None:
        """The oracle may know whose decision is coming."""
        if self._oracle is not None:
            self._oracle.asked = ride.arrival

    def _promised(self, job: Job) -> tuple[int, Slo] | None:
        attempt = self._playing.get(job)
        return None if attempt is None else (attempt.ride.arrived_ns, attempt.ride.route.slo)

    def _carry_out(self, ride: Ride, commands: Sequence[Command], now_ns: int) -> None:
        """Do what a machine says, and report what fails at once when all of it is done."""
        failures: list[Failure] = []
        while True:
            for command in commands:
                kind = type(command)
                if kind is Ask:
                    self._ask(ride, command, now_ns, failures)  # type: ignore[arg-type]
                elif kind is Serve:
                    ride.served = ride.open[command.number]  # type: ignore[union-attr]
                elif isinstance(command, Drop):
                    self._drop(ride, command.number, now_ns)
                elif isinstance(command, Wake):
                    ride.wake_ns = max(command.at_ns, now_ns)
                    self._push(ride.wake_ns, ride)
                elif isinstance(command, Refuse):
                    self._refused(ride, command.error, now_ns)
            if not failures:
                return
            failure = failures.pop(0)
            self._look_at(ride)
            commands = ride.machine.failed(failure.number, failure.error, now_ns)

    def _ask(self, ride: Ride, ask: Ask, now_ns: int, failures: list[Failure]) -> None:
        flight = Flight(ask, self._fleet, now_ns)
        server = self._servers[flight.chosen.view.name]
        attempt = Try(ride, flight, server)
        ride.attempts += 1
        error = self._submit(attempt, now_ns)
        if error is None:
            ride.open[ask.number] = attempt
            return
        self._settle(attempt, "failed", now_ns, error)
        failures.append(Failure(ask.number, error))

    def _submit(self, attempt: Try, now_ns: int) -> BackendError | None:
        """Give an attempt to its backend's engine; why not, as `EmulatedBackend` would say."""
        server, arrival = attempt.server, attempt.ride.arrival
        if server.down:
            return Unavailable(f"{server.name} is down")
        prompt_tokens = arrival.prompt_tokens
        room = server.context_tokens - prompt_tokens
        if room < 1:
            return ContextExceeded(f"the context of {server.name} is {server.context_tokens} tokens", "messages")
        engine = server.engine
        self._advance(server, now_ns)
        demand = engine.demand()
        if demand and demand + 1 > server.room:
            return Saturated(f"{server.name} is full: {demand} sequences run or wait already", engine.vacancy_s())
        length = arrival.completion_tokens
        attempt.job = job = engine.submit(
            now_ns,
            prompt_tokens,
            (length if length < room else room,),
            priority=arrival.priority,
            prefix=server.prefix(arrival.blocks, prompt_tokens) if arrival.blocks else None,
        )
        self._playing[job] = attempt
        self._rearm(server)
        return None

    def _drop(self, ride: Ride, number: int, now_ns: int) -> None:
        attempt = ride.open.pop(number, None)
        if attempt is None:
            return
        assert attempt.job is not None
        server = attempt.server
        self._advance(server, now_ns)
        if self._playing.pop(attempt.job, None) is None:
            return  # it ended at this very moment
        server.engine.cancel(attempt.job, now_ns)
        self._rearm(server)
        self._settle(attempt, "cancelled", now_ns)

    def _advance(self, server: Server, now_ns: int) -> None:
        """Bring an engine to now, and tell what an event due at this very moment has brought."""
        server.engine.advance(now_ns)
        if server.news:
            self._rearm(server)
            self._tell(server, now_ns)

    def _tell(self, server: Server, now_ns: int) -> None:
        """Report first tokens and ends."""
        told = server.news[:]
        server.news.clear()
        playing = self._playing
        for job in told:
            attempt = playing.get(job)
            if attempt is None:
                continue
            flight, ride = attempt.flight, attempt.ride
            if flight.first_token_ns is None:
                flight.first_token(now_ns)
                self._look_at(ride)
                self._carry_out(ride, ride.machine.began(flight.number, now_ns), now_ns)
            if job.ended_ns is not None and playing.pop(job, None) is not None:
                ride.open.pop(flight.number, None)
                self._settle(attempt, "ok", now_ns)
                if ride.served is attempt:
                    self._answered(ride, attempt, now_ns)

    def _rearm(self, server: Server) -> None:
        next_ns = server.engine.next_event_ns()
        if next_ns is not None and next_ns != server.armed_ns:
            server.armed_ns = next_ns
            self._push(next_ns, server)

    def _push(self, at_ns: int, who: Server | Ride) -> None:
        self._order += 1
        heappush(self._heap, (at_ns, self._order, who))

    def _settle(self, attempt: Try, end: AttemptEnd, now_ns: int, error: BackendError | None = None) -> None:
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
            self._effective[server.index] += nusd
        if server.owned:
            cost = view.cost
            ride.forecast_nusd += usage.prompt_tokens * cost.prompt_nusd
            ride.forecast_nusd += usage.completion_tokens * cost.completion_nusd
        else:
            ride.spend_nusd += nusd or 0

    def _answered(self, ride: Ride, attempt: Try, now_ns: int) -> None:
        """The request has its whole answer."""
        ride.done = True
        flight, server = attempt.flight, attempt.server
        self._ended_at[server.index] += 1
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
                chosen.in_flight / chosen.view.profile.max_sequences,
                (prediction.ttft_s, prediction.ttft_q90_s, prediction.tpot_s, prediction.tpot_q90_s),
                flight.ttft_s(),
            )
        )

    def _refused(self, ride: Ride, error: ApiError, now_ns: int) -> None:
        """The request ends without an answer."""
        ride.done = True
        arrival = ride.arrival
        self._told(
            Served(
                ride.arrived_ns / 1e9, arrival.prompt_tokens, 0, 0, NOWHERE, ride.attempts, False,
                error.error_code or error.type, None, None, None, ride.route.slo != (None, None, None), False,
                ride.effective_nusd, ride.forecast_nusd, ride.spend_nusd, 0.0, UNSEEN, None,
            )
        )  # fmt: skip
