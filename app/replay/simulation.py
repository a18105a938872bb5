"""Real traffic in virtual time: a heap of engine events and timers between arrivals, and no clock.

What is asked of whom, what is reserved, learned and billed is the gateway's own code; here commands of the dispatch
machine are carried out on engines instead of connections. Everything happens in order of time; at the same moment
engines come before arrivals, as `Engine.advance` has it. Nothing here looks at how a request will turn out: lengths of
answers go to engines alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from math import inf, isfinite

from app.call import NO_OPTIONS
from app.dispatch.commands import Ask, Command, Drop, Hold, Refuse, Serve, Wake
from app.dispatch.flight import Flight
from app.dispatch.machine import Desk, Dispatch
from app.fleet.health import NEVER_NS
from app.planning import promise
from app.replay.accounts import Accounts
from app.replay.faults import Change, Fault
from app.replay.formats import Arrival
from app.replay.oracle import Oracle
from app.replay.records import Served, Worked
from app.replay.ride import Failure, Ride, Try
from app.replay.stage import Server, Stage
from app.routing.types import RouteRequest, Slo
from backends.emulator.jobs import Job
from backends.errors import BackendError, ContextExceeded, Saturated, StreamCut, Unavailable

NS = 1_000_000_000


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
        self._accounts = Accounts(stage, told)
        self._desk: Desk = stage.fleet if desk is None else desk
        self._oracle = oracle
        self._servers = stage.servers
        self._playing: dict[Job, Try] = {}
        self._heap: list[tuple[int, int, Server | Ride | Change | str]] = []
        self._order = 0
        self._number = 0
        self._slice_ns = 0
        self._held: dict[Dispatch, Ride] = {}
        self._rooms: list[str] = []
        self._opening_ns: dict[str, int] = {}
        self._fleet.released = self._released
        self._fleet.wakes = self._woken
        if oracle is not None:
            oracle.promised = self._promised
        self.now_ns = 0
        self.models: set[str] = set()  # that were asked for

    def run(self, arrivals: Iterable[Arrival], slice_s: float = inf) -> None:
        """Play the arrivals, in order of time, to the end of the last request; every `slice_s` it is written down how
        long each backend has been at work."""
        slice_at_s = slice_s
        self._slice_ns = int(slice_s * NS) if isfinite(slice_s) else 0
        for arrival in arrivals:
            while arrival.at_s >= slice_at_s:
                self.until(int(slice_at_s * NS))
                self._accounts.slice(int(slice_at_s * NS))
                slice_at_s += slice_s
            at_ns = int(arrival.at_s * NS)
            self.until(at_ns)
            self.now_ns = at_ns
            self._arrive(arrival, at_ns)
        self.until(None)
        assert self._accounts.ended == self._number, "a request was lost"

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
                self._wake(who, at_ns)
            elif type(who) is Change:
                self._change(who, at_ns)
            elif type(who) is str and self._opening_ns.get(who) == at_ns:  # a backend of that model opens by itself
                self.now_ns = at_ns
                del self._opening_ns[who]
                if self._held:
                    self._rooms.append(who)
                    self._expect(who, at_ns)
            while self._rooms:
                self._room(self._rooms.pop(), self.now_ns)

    def _wake(self, ride: Ride, now_ns: int) -> None:
        ride.wake_ns = None
        self._held.pop(ride.machine, None)
        self._look_at(ride)
        self._carry_out(ride, ride.machine.wake(now_ns), now_ns)

    def _released(self, backend: str, now_ns: int) -> None:
        if self._held:  # who may have its place is asked when what happens now has happened
            self._rooms.append(self._servers[backend].model)

    def _woken(self, backend: str, now_ns: int) -> None:
        server = self._servers[backend]
        self._advance(server, now_ns)
        server.wake(now_ns)
        self._rearm(server)

    def _expect(self, model: str, now_ns: int) -> None:
        """Have those who wait at a model asked when the next of its backends opens by itself."""
        opens_ns = self._fleet.opens_ns(model, now_ns)
        if opens_ns is not None and opens_ns < self._opening_ns.get(model, NEVER_NS):
            self._opening_ns[model] = opens_ns
            self._push(opens_ns, model)

    def _room(self, model: str, now_ns: int) -> None:
        """Let those decide again whose turn it is at a model."""
        terms = self._stage.terms
        for machine in () if terms.queue is None else terms.queue.turns(model, terms.re_decisions, now_ns):
            self._wake(ride := self._held[machine], now_ns)
            if ride.open:
                self._rooms.append(model)

    def worked(self) -> list[Worked]:
        """What each backend of a model that was asked for did until now."""
        return self._accounts.worked(self.now_ns, self._slice_ns, self.models)

    def schedule(self, faults: Iterable[Fault]) -> None:
        """Backends that will be down for a while."""
        for fault in faults:
            server = self._servers[fault.backend]
            self._push(int(fault.from_s * NS), Change(server, down=True))
            self._push(int(fault.until_s * NS), Change(server, down=False))

    def _change(self, change: Change, now_ns: int) -> None:
        """A backend goes down, and everybody there hears of it; or it is back."""
        server = change.server
        server.down = change.down
        if not change.down:
            return
        self._advance(server, now_ns)
        broken = [(job, attempt) for job, attempt in self._playing.items() if attempt.server is server]
        for job, _ in broken:
            del self._playing[job]
            server.engine.cancel(job, now_ns)
        self._rearm(server)
        for _, attempt in broken:
            flight, ride = attempt.flight, attempt.ride
            del ride.open[flight.number]
            if flight.first_token_ns is None:
                error: BackendError = Unavailable(f"{server.name} is down")
                self._accounts.settle(attempt, "failed", now_ns, error)
                self._look_at(ride)
                self._carry_out(ride, ride.machine.failed(flight.number, error, now_ns), now_ns)
            else:
                self._accounts.settle(attempt, "failed", now_ns, StreamCut(f"{server.name} broke off"))
                if ride.served == flight.number:
                    self._accounts.refused(ride, "cut_stream")

    def _arrive(self, arrival: Arrival, now_ns: int) -> None:
        route = self._route(arrival, now_ns)
        self._number += 1
        ride = Ride(self._number, arrival, now_ns, route, self._machine(route))
        self._look_at(ride)
        self._carry_out(ride, ride.machine.begin(now_ns), now_ns)

    def _machine(self, route: RouteRequest) -> Dispatch:
        """The dispatch of one request: the only place that knows how one is made."""
        return Dispatch(route, "chat", self._desk, self._stage.terms)

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
            may_hold=self._stage.terms.queue is not None,
            blocks=arrival.blocks,
        )

    def _look_at(self, ride: Ride) -> None:  # the oracle may know whose decision is coming
        if self._oracle is not None:
            self._oracle.asked = ride.arrival

    def _promised(self, job: Job) -> tuple[int, Slo] | None:
        attempt = self._playing.get(job)
        return None if attempt is None else (attempt.ride.arrived_ns, attempt.ride.route.slo)

    def _carry_out(self, ride: Ride, commands: Sequence[Command], now_ns: int) -> None:
        """Do what a machine says, and report what fails at once when all of it is done."""
        failures: list[Failure] = []
        if len(commands) == 1 and type(serve := commands[0]) is Serve:  # as mostly
            ride.served = serve.number
            return
        while True:
            for command in commands:
                kind = type(command)
                if kind is Ask:
                    self._ask(ride, command, now_ns, failures)  # type: ignore[arg-type]
                elif kind is Serve:
                    ride.served = command.number  # type: ignore[union-attr]
                elif isinstance(command, Drop):
                    self._drop(ride, command.number, now_ns)
                elif isinstance(command, Wake | Hold):
                    if isinstance(command, Hold):
                        self._held[ride.machine] = ride
                        self._expect(ride.route.model, now_ns)
                    ride.wake_ns = max(command.at_ns, now_ns)
                    self._push(ride.wake_ns, ride)
                elif isinstance(command, Refuse):
                    self._accounts.refused(ride, command.error.error_code or command.error.type)
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
        self._accounts.settle(attempt, "failed", now_ns, error)
        failures.append(Failure(ask.number, error))

    def _submit(self, attempt: Try, now_ns: int) -> BackendError | None:
        """Give an attempt to its backend's engine; or why not."""
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
        self._accounts.settle(attempt, "cancelled", now_ns)

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
                self._accounts.settle(attempt, "ok", now_ns)
                if ride.served == flight.number:
                    self._accounts.answered(ride, attempt, now_ns)

    def _rearm(self, server: Server) -> None:
        next_ns = server.engine.next_event_ns()
        if next_ns is not None and next_ns != server.armed_ns:
            server.armed_ns = next_ns
            self._push(next_ns, server)

    def _push(self, at_ns: int, who: Server | Ride | Change | str) -> None:
        self._order += 1
        heappush(self._heap, (at_ns, self._order, who))
