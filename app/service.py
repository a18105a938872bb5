"""A request's story, in one page.

plan      who is asked for what: model or alias, limits, the promise (SLO), an estimate of its size
look up   an answer given before, if this one is determined by its request; or one that is being given
dispatch  decide, reserve, ask; failing that, ask another, until a first event exists
answer    the events, as they come; whichever way it ends, it is billed, recorded and learned from
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any

from app.answers import Answer, CacheResult, LiveAnswer, ReplayedAnswer
from app.bookkeeper import Bookkeeper, LookUp
from app.cache.base import CachedAnswer
from app.cache.keys import cache_key
from app.cache.shared import Boarded, Publisher
from app.cache.tiers import AnswerCache, Found
from app.caching import Caching
from app.call import Call, Fields
from app.dispatch.attempt import Attempt
from app.dispatch.dispatcher import Dispatcher
from app.errors import ApiError, NotFound
from app.fleet.fleet import Fleet
from app.flights import Flight, SharedAnswer, Source
from app.planning import Plan, Planner
from app.recording import Recorder
from app.routing.types import Decision
from app.taking_over import FollowedAnswer
from backends.clock import Clock

log = logging.getLogger("turnout.cache")


class CompletionService:
    """Answers chats, text completions and embeddings."""

    def __init__(
        self,
        planner: Planner,
        fleet: Fleet,
        dispatcher: Dispatcher,
        caching: Caching | None,
        bookkeeper: Bookkeeper,
        clock: Clock,
        cache_epoch: str,
    ) -> None:
        self.planner = planner
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._caching = caching
        self._books = bookkeeper
        self._clock = clock
        self._cache_epoch = cache_epoch
        self._background: set[asyncio.Task[None]] = set()

    def preview(self, call: Call) -> Decision:
        """What would be decided now; nothing is dispatched, reserved or billed.

        Raises: NotFound for an unknown model or policy.
        """
        return self._fleet.preview(self._plan(call).route, self._clock.now_ns())

    def prompt_tokens(self, call: Call) -> int:
        """How many tokens a prompt is estimated to have, as it would be for a decision.

        Raises: NotFound for an unknown model.
        """
        return self._plan(call).route.prompt_tokens

    async def open(self, call: Call, fields: Fields | None) -> Answer:
        """An answer whose first event exists. `fields` is the body as plain data, given when it may be cached.

        Raises: ApiError.
        """
        plan = self._plan(call)
        caching = self._caching
        if caching is None or fields is None:
            if call.options.cache == "only":
                raise _nothing_cached()
            return await self._dispatch(call, plan, None)
        key = cache_key(call.tenant, call.endpoint, self._cache_epoch, {**fields, "model": plan.model})
        if call.options.cache == "refresh":
            return await self._dispatch(call, plan, key)
        found = await self._look_up(caching.answers, call, plan, key)
        if found is not None:
            if found.stale:
                self._renew(caching, call, plan, key)
            self._books.hit(call, plan, found.answer)
            return ReplayedAnswer(found, plan.route.slo)
        if call.options.cache == "only":
            raise _nothing_cached()
        return await self._share(caching, call, plan, key)

    def cacheable(self, call: Call, model: str) -> bool:
        """Whether this call may be answered from, and kept in, the cache."""
        if self._caching is None or call.options.cache == "off":
            return False
        rule = self._caching.rules.get(model)
        return rule is not None and (rule.always or call.deterministic)

    async def aclose(self) -> None:
        """Wait for answers still being made for, or written to, the cache."""
        if self._caching is not None and self._caching.flights is not None:
            await self._caching.flights.aclose()
        if self._background:
            await asyncio.gather(*self._background)

    def _plan(self, call: Call) -> Plan:
        return self.planner.plan(call, self._fleet.state.lengths)

    async def _look_up(self, answers: AnswerCache, call: Call, plan: Plan, key: bytes) -> Found | None:
        started_ns = self._clock.now_ns()
        found = await answers.get(key)
        if found is not None and call.options.max_age_s is not None and found.age_s > call.options.max_age_s:
            found = None
        result: LookUp = "miss" if found is None else "stale" if found.stale else "hit"
        self._books.cache_lookup(plan.model, result, self._clock.now_ns() - started_ns)
        return found

    async def _share(self, caching: Caching, call: Call, plan: Plan, key: bytes) -> Answer:
        """An answer that others may read too, whole ones and streams apart: what services send differs."""
        if caching.flights is None:
            return await self._dispatch(call, plan, key)
        name = key + (b"s" if call.stream else b"w")
        flight = caching.flights.joinable(name)
        if flight is None:
            flight = caching.flights.begin(name, lambda: self._source(caching, call, plan, key, name))
            return await self._board(flight, call, plan, leads=True)
        return await self._board(flight, call, plan, leads=False)

    async def _board(self, flight: Flight, call: Call, plan: Plan, *, leads: bool) -> SharedAnswer:
        flight.readers += 1
        started_ns = self._clock.now_ns()
        source = None
        try:
            source = await flight.opened()
        finally:
            if source is None:
                await flight.left()
        leads = leads and isinstance(source, LiveAnswer)
        answer = SharedAnswer(flight, source, plan.route.slo, self._clock.now_ns() - started_ns, leads=leads)
        if not leads:
            answer.landed = lambda: self._books.coalesced(call, plan, source)
        return answer

    async def _source(self, caching: Caching, call: Call, plan: Plan, key: bytes, name: bytes) -> Source:
        """A generation of our own, or what another process is generating at this moment."""
        boarded = Boarded() if caching.relay is None else await caching.relay.board(name)
        if boarded.follower is None:
            return await self._dispatch(call, plan, key, boarded.publisher)
        slo = plan.route.slo
        followed = FollowedAnswer(
            plan.model, slo, boarded.follower, lambda: self._source(caching, call, plan, key, name)
        )
        return await followed.first()

    def _renew(self, caching: Caching, call: Call, plan: Plan, key: bytes) -> None:
        """Make a new answer, which nobody waits for, unless somebody does already."""
        name = key + (b"s" if call.stream else b"w")
        if caching.flights is None:
            self._begin(self._drain(self._dispatch(call, plan, key)))
        elif caching.flights.joinable(name) is None:
            flight = caching.flights.begin(name, lambda: self._source(caching, call, plan, key, name))
            self._begin(self._drain(self._board(flight, call, plan, leads=True)))

    async def _dispatch(
        self, call: Call, plan: Plan, key: bytes | None, publisher: Publisher | None = None
    ) -> LiveAnswer:
        answer: LiveAnswer | None = None
        cache: CacheResult = "off" if key is None else "miss"

        def settled(attempt: Attempt) -> None:
            cost = self._books.settle(call, plan, attempt, cache)
            if answer is not None:
                answer.cost = cost
                answer.energy_j = attempt.energy_j()

        try:
            opened = await self._dispatcher.open(plan.route, plan.generation, settled, call.tenant)
            if key is None:
                answer = LiveAnswer(plan.model, cache, opened, self._clock)
            else:
                recorder = Recorder(call.choices, stream=call.stream, own_limit=call.max_tokens is not None)
                keep = partial(self._keep, key, plan.model, recorder)
                answer = LiveAnswer(plan.model, cache, opened, self._clock, recorder, publisher, keep)
        finally:
            if answer is None and publisher is not None:
                await publisher.aclose()
        return answer

    async def _keep(self, key: bytes, model: str, recorder: Recorder, answer: LiveAnswer) -> None:
        """Store a complete answer; its reader does not wait for a network."""
        caching = self._caching
        assert caching is not None
        rule, now_ns = caching.rules[model], self._clock.wall_ns()
        view = answer.attempt.chosen.view
        fresh_ns = now_ns + round(rule.ttl_s * 1e9)
        cached = CachedAnswer(
            choices=recorder.choices(),
            usage=answer.usage(),
            model=model,
            backend=view.name,
            substrate=view.substrate,
            stored_wall_ns=now_ns,
            cost_nusd=None if answer.cost is None else answer.cost.total_nusd,
            fresh_until_wall_ns=fresh_ns,
            gone_wall_ns=fresh_ns + round(rule.stale_s * 1e9),
        )
        if caching.answers.far is None:
            await caching.answers.set(key, cached)
        else:
            self._begin(caching.answers.set(key, cached))

    async def _drain(self, opening: Coroutine[Any, Any, Answer]) -> None:
        """Read an answer to its end for the cache's sake."""
        try:
            answer = await opening
            try:
                async for _ in answer:
                    pass
            finally:
                await answer.aclose()
        except ApiError as error:
            log.info("an answer past its time could not be renewed: %s", error.message)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _nothing_cached() -> NotFound:
    return NotFound("no cached answer, and only a cached one was asked for", code="cache_miss")
