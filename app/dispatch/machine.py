"""One request's way to an answer, as a synchronous state machine: events in, commands out. No I/O, no clock.

The shell (asyncio in `dispatcher`, virtual time in `app.replay`) carries commands out and reports events:

    begin(now)             the request is there
    began(number, now)     attempt `number` has its first event
    failed(number, error)  attempt `number` failed before it
    wake(now)              the time of the last `Wake` or `Hold` has come, or the queue says it is this one's turn
    leave(now)             the client has gone: every attempt still open is dropped

`Serve` and `Refuse` end it; an event that comes later is ignored. The rules:

*Retry.* Only before the first event, for failures another backend need not share, at most `max_attempts` failures, and
within the retry budget of all traffic (10 %, full and unreachable backends counting half). A retry is made even when
the TTFT promise is lost already, late being better than never, but not past the end-to-end promise. A backend that
finds the prompt longer than the router thought is followed, once, by those with a wider context, at no charge.
*Silence.* A backend that says nothing for 5 x its predicted q90 (at least 2 s) is dropped if somebody else takes the
request, else waited for until `at_most_s` (streams; others until the backend's own timeout). While a backend warms up
as declared its silence is not counted.
*Hedge.* If configured: past 1.1 x q90 without an event a second backend is asked, within the hedge budget, unless the
TTFT promise is lost already. Who begins first is served, the other dropped.
*Wait.* A decision may be to look again a little later, when somebody cheaper may have room (`patience`).
*Hold.* A decision to wait puts the request into the queue until the latest time at which somebody idle could still keep
its promise; then it is decided a last time, without that way out. Negative priority is never held.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Protocol

from app.dispatch.admission import Place, cost_of
from app.dispatch.commands import Ask, Command, Drop, Hold, Refuse, Serve, Wake, Why
from app.dispatch.refusals import nobody, turned_away
from app.dispatch.terms import CHEAP_RETRY, Terms
from app.errors import from_backend
from app.routing.filters.context import ESTIMATE_TOLERANCE
from app.routing.types import Decision, Prediction, Reservation, RouteRequest
from backends import errors
from backends.errors import BackendError
from backends.types import Endpoint

SECOND_NS = 1_000_000_000

WHY: tuple[tuple[type[BackendError], Why], ...] = (
    (errors.ContextExceeded, "context"),
    (errors.Saturated, "saturated"),
    (errors.BackendTimeout, "timeout"),
    (errors.Unavailable, "connect"),
    (errors.StreamCut, "cut_stream"),
)


class Desk(Protocol):
    """Where decisions are made and reserved (`app.fleet.fleet.Fleet`)."""

    def decide(self, request: RouteRequest, now_ns: int) -> tuple[Decision, Reservation | None]: ...


class Open:
    """An attempt that has not begun to answer."""

    __slots__ = ("decision", "give_up_ns", "hedge_ns", "impatient_ns")

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.impatient_ns: int | None = None
        self.give_up_ns: int | None = None
        self.hedge_ns: int | None = None


class Dispatch:
    """The dispatch of one request. `stream` says whether its first event is its first token (else it may be its
    end)."""

    __slots__ = (
        "_desk", "_done", "_endpoint", "_failures", "_last_error", "_open", "_route", "_stream", "_tenant", "_terms",
        "_tried", "_wait_until_ns", "_widened",
    )  # fmt: skip

    def __init__(
        self,
        route: RouteRequest,
        endpoint: Endpoint,
        desk: Desk,
        terms: Terms,
        stream: bool = True,
        tenant: str = "default",
    ) -> None:
        self._route = route
        self._endpoint: Endpoint = endpoint
        self._desk = desk
        self._terms = terms
        self._stream = stream
        self._tenant = tenant
        self._open: dict[int, Open] = {}
        self._tried: tuple[str, ...] = ()
        self._failures = 0
        self._last_error: BackendError | None = None
        self._widened = False
        self._wait_until_ns: int | None = None
        self._done = False

    def begin(self, now_ns: int) -> Sequence[Command]:
        """The request is there."""
        terms = self._terms
        terms.retries.request()
        if terms.hedge is not None:
            terms.hedges.request()
        route = self._route
        arrived_ns = now_ns if route.arrived_ns is None else route.arrived_ns
        may_hold = terms.queue is not None
        if route.arrived_ns is None or route.may_hold is not may_hold:  # a copy takes 3 us
            self._route = route._replace(arrived_ns=arrived_ns, may_hold=may_hold)
        return self._decide(now_ns, "first")

    def began(self, number: int, now_ns: int) -> Sequence[Command]:
        """An attempt has its first event."""
        if self._done or number not in self._open:
            return ()
        self._done = True
        if len(self._open) == 1:
            return (Serve(number),)
        return [*(Drop(other) for other in self._open if other != number), Serve(number)]

    def failed(self, number: int, error: BackendError, now_ns: int) -> Sequence[Command]:
        """An attempt failed before its first event."""
        opened = self._open.pop(number, None)
        if self._done or opened is None:
            return ()
        self._last_error = error
        if not isinstance(error, errors.Saturated | errors.Unreachable | errors.ContextExceeded):
            self._failures += 1
        if self._open:  # the other one of a race is the second try
            return self._timer(now_ns)
        why = self._again(error, opened.decision, now_ns)
        if why is None:
            return self._refuse(opened.decision, error)
        return self._decide(now_ns, why)

    def wake(self, now_ns: int) -> Sequence[Command]:
        """A time that was waited for has come, or somebody thinks there is room."""
        if self._done:
            return ()
        if not self._open:
            until_ns = self._wait_until_ns
            if until_ns is not None and now_ns >= until_ns:
                self._route = self._route._replace(may_hold=False)
            return self._decide(now_ns, "first" if self._last_error is None else _why(self._last_error))
        for number, opened in list(self._open.items()):
            if opened.give_up_ns is not None and now_ns >= opened.give_up_ns:
                return [Drop(number, "slow"), *self.failed(number, silent(opened.decision), now_ns)]
            if opened.impatient_ns is not None and now_ns >= opened.impatient_ns:
                opened.impatient_ns = None
                if commands := self._elsewhere(number, opened, now_ns):
                    return commands
            if opened.hedge_ns is not None and now_ns >= opened.hedge_ns:
                opened.hedge_ns = None
                if commands := self._hedge(now_ns):
                    return commands
        return self._timer(now_ns)

    def leave(self, now_ns: int) -> Sequence[Command]:
        """The client has gone."""
        if self._done:
            return ()
        self._done = True
        self._unqueue(now_ns, placed=False)
        return [Drop(number, "left") for number in self._open]

    def _decide(self, now_ns: int, why: Why) -> Sequence[Command]:
        decision, reservation = self._desk.decide(self._route, now_ns)
        if decision.chosen is not None and reservation is not None:
            self._unqueue(now_ns, placed=True)
            return self._ask(decision, reservation, why, now_ns)
        if decision.reason == "hold":
            return self._hold(decision, now_ns)
        if decision.reason == "wait":  # for somebody cheaper, while there is time: no place in the queue is needed
            return (Hold(now_ns + int((decision.retry_after_s or 0.0) * SECOND_NS)),)
        self._done = True
        self._unqueue(now_ns, placed=False)
        error = (
            turned_away(decision, "request_shed")
            if decision.reason == "shed"
            else nobody(decision, self._last_error, self._endpoint)
        )
        return [Refuse(error.after(decision, len(self._tried), 0))]

    def _ask(self, decision: Decision, reservation: Reservation, why: Why, now_ns: int) -> Sequence[Command]:
        chosen, terms, route = decision.chosen, self._terms, self._route
        assert chosen is not None
        self._tried = (*self._tried, chosen.view.name)
        number = len(self._tried)
        if why == "hedge":
            terms.hedges.take(1.0, now_ns)
        elif why not in ("first", "context"):
            terms.retries.take(1.0 if self._last_error is None else _price(self._last_error), now_ns)
        opened = self._open[number] = Open(decision)
        if terms.queue is not None:
            terms.queue.served(self._tenant, cost_of(route.prompt_tokens, route.completion_tokens), now_ns)
        prediction, guard, hedge = chosen.prediction, terms.guard, terms.hedge
        warm_ns = now_ns + int(prediction.warm_up_s * SECOND_NS)  # until then silence is as declared
        q90_s = (prediction.ttft_q90_s if self._stream else prediction.e2e_q90_s) - prediction.warm_up_s
        if guard is not None:
            patience_s = max(guard.times_q90 * q90_s, guard.at_least_s)
            if self._stream:
                opened.give_up_ns = warm_ns + int(guard.at_most_s * SECOND_NS)
                patience_s = min(patience_s, guard.at_most_s)
            opened.impatient_ns = warm_ns + int(patience_s * SECOND_NS)
        if hedge is not None and len(self._open) == 1:
            opened.hedge_ns = warm_ns + int(max(hedge.times_q90 * q90_s, hedge.at_least_s) * SECOND_NS)
        elif guard is not None and len(self._open) == 1:
            return Ask(number, decision, reservation, why), Wake(opened.impatient_ns or 0)
        return [Ask(number, decision, reservation, why), *self._timer(now_ns)]

    def _timer(self, now_ns: int) -> Sequence[Command]:
        times = [
            at_ns
            for opened in self._open.values()
            for at_ns in (opened.impatient_ns, opened.hedge_ns, opened.give_up_ns)
            if at_ns is not None
        ]
        return [Wake(max(now_ns, min(times)))] if times else []

    def _again(self, error: BackendError, decision: Decision, now_ns: int) -> Why | None:
        """Whether another backend may be asked after that failure, and what for."""
        chosen, terms = decision.chosen, self._terms
        assert chosen is not None
        exclude = frozenset(self._tried)
        if isinstance(error, errors.ContextExceeded):
            if self._widened:
                return None
            self._widened = True
            room = chosen.view.context_tokens
            exclude |= {each.view.name for each in decision.candidates if each.view.context_tokens <= room}
            if decision.unseen:  # how much those have room for the context filter knows
                least = ceil(room * ESTIMATE_TOLERANCE)
                longest = max(self._route.longest_prompt_tokens, least)
                self._route = self._route._replace(longest_prompt_tokens=longest)
            elif exclude >= {each.view.name for each in decision.candidates}:
                return None
        else:
            spent = self._failures >= terms.max_attempts or not terms.retries.may(_price(error), now_ns)
            if spent or not error.retryable or self._too_late(now_ns):
                return None
        self._route = self._route._replace(exclude=self._route.exclude | exclude)
        return _why(error)

    def _too_late(self, now_ns: int) -> bool:
        e2e_s, arrived_ns = self._route.slo.e2e_s, self._route.arrived_ns
        return e2e_s is not None and arrived_ns is not None and now_ns - arrived_ns >= e2e_s * SECOND_NS

    def _elsewhere(self, number: int, opened: Open, now_ns: int) -> Sequence[Command]:
        """Leave a silent backend for another one, if there is one and it may be; nothing if not."""
        terms, route = self._terms, self._route
        if self._failures + 1 >= terms.max_attempts or self._too_late(now_ns) or len(self._open) > 1:
            return ()
        if not terms.retries.may(1.0, now_ns):
            return ()
        asked = self._beside(now_ns, "slow")
        if not asked:
            self._route = route
            return ()
        del self._open[number]
        self._failures += 1
        self._last_error = silent(opened.decision)
        return [Drop(number, "slow"), *(each for each in asked if type(each) is Ask), *self._timer(now_ns)]

    def _hedge(self, now_ns: int) -> Sequence[Command]:
        """Ask somebody else beside; nothing if that may not be or nobody is there."""
        route = self._route
        ttft_s, arrived_ns = route.slo.ttft_s, route.arrived_ns
        lost = ttft_s is not None and arrived_ns is not None and now_ns - arrived_ns >= ttft_s * SECOND_NS
        if lost or self._too_late(now_ns) or len(self._open) > 1 or not self._terms.hedges.may(1.0, now_ns):
            return ()
        return self._beside(now_ns, "hedge")

    def _beside(self, now_ns: int, why: Why) -> Sequence[Command]:
        self._route = self._route._replace(exclude=self._route.exclude.union(self._tried))
        decision, reservation = self._desk.decide(self._route._replace(may_hold=False), now_ns)
        if decision.chosen is None or reservation is None:
            return ()
        return self._ask(decision, reservation, why, now_ns)

    def _hold(self, decision: Decision, now_ns: int) -> Sequence[Command]:
        """Wait in the queue, if it takes the request; else, or when it is too late for that, the last decision."""
        queue, until_ns = self._terms.queue, self._wait_until_ns
        if until_ns is not None and now_ns < until_ns:
            return (Hold(until_ns),)  # not yet: it has kept its place
        if self._route.priority < 0 or queue is None or not self._route.may_hold:
            return self._turn_away(decision, "request_shed", now_ns)
        until_ns = self._latest_ns(decision, now_ns)
        if until_ns <= now_ns:
            self._route = self._route._replace(may_hold=False)
            return self._decide(now_ns, "first" if self._last_error is None else _why(self._last_error))
        route = self._route
        cost = cost_of(route.prompt_tokens, route.completion_tokens)
        turned = queue.offer(self, Place(route.model, route.priority, self._tenant, until_ns, cost, now_ns), now_ns)
        if turned is not None:
            return self._turn_away(decision, turned, now_ns)
        self._wait_until_ns = until_ns
        return (Hold(until_ns),)

    def _latest_ns(self, decision: Decision, now_ns: int) -> int:
        """Until when a promise can be kept by somebody who has nothing else to do; `max_wait_s` at most."""
        slo, arrived_ns = self._route.slo, self._route.arrived_ns or now_ns
        times = [now_ns + self._terms.max_wait_s * SECOND_NS]
        idle_s = [_idle_q90s_s(candidate.prediction) for candidate in decision.candidates]
        for promised_s, least_s in (
            (slo.ttft_s, min((first_s for first_s, _ in idle_s), default=0.0)),
            (slo.e2e_s, min((last_s for _, last_s in idle_s), default=0.0)),
        ):
            if promised_s is not None:
                times.append(arrived_ns + (promised_s - least_s) * SECOND_NS)
        return int(min(times))

    def _turn_away(self, decision: Decision, why: str, now_ns: int) -> Sequence[Command]:
        self._done = True
        self._unqueue(now_ns, placed=False)
        return [Refuse(turned_away(decision, why).after(decision, len(self._tried), 0))]

    def _unqueue(self, now_ns: int, *, placed: bool) -> None:
        if self._wait_until_ns is not None and self._terms.queue is not None:
            self._wait_until_ns = None
            self._terms.queue.leave(self, now_ns, placed=placed)

    def _refuse(self, decision: Decision, error: BackendError) -> Sequence[Command]:
        self._done = True
        return [Refuse(from_backend(error).after(decision, len(self._tried), 0))]


def silent(decision: Decision) -> errors.BackendTimeout:
    """The failure of a backend that has said nothing for too long."""
    assert decision.chosen is not None
    return errors.BackendTimeout(f"{decision.chosen.view.name} said nothing for far longer than predicted")


def _idle_q90s_s(prediction: Prediction) -> tuple[float, float]:
    """The 0.9 quantiles of TTFT and end if nobody were there to wait for."""
    waiting_s = 0.0
    if prediction.prior_ttft_s > 0:
        warm_q90_s = prediction.ttft_q90_s - prediction.warm_up_s
        waiting_s = warm_q90_s * min(1.0, prediction.wait_s / prediction.prior_ttft_s)
    return prediction.ttft_q90_s - waiting_s, prediction.e2e_q90_s - waiting_s


def _why(error: BackendError) -> Why:
    return next((why for kind, why in WHY if isinstance(error, kind)), "error")


def _price(error: BackendError) -> float:
    return CHEAP_RETRY if isinstance(error, errors.Saturated | errors.Unreachable) else 1.0
