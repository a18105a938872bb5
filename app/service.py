"""A request's story, in one page.

plan      who is asked for what: model or alias, limits, the promise (SLO), an estimate of its size
look up   an answer given before, if this one is determined by its request
dispatch  decide, reserve, ask; failing that, ask another, until a first event exists
answer    the events, as they come; whichever way it ends, it is billed, recorded and learned from
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.answers import Answer, CacheResult, LiveAnswer, ReplayedAnswer
from app.bookkeeper import Bookkeeper
from app.cache.base import ResponseCache
from app.cache.keys import cache_key
from app.call import Call, Fields
from app.dispatch.attempt import Attempt
from app.dispatch.dispatcher import Dispatcher
from app.errors import NotFound
from app.fleet.fleet import Fleet
from app.planning import Plan, Planner
from app.routing.types import Decision
from backends.clock import Clock


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Whether answers are cached, and which: `deterministic` ones only, or `always`."""

    enabled: bool
    always: bool


class CompletionService:
    """Answers chat and text completions."""

    def __init__(
        self,
        planner: Planner,
        fleet: Fleet,
        dispatcher: Dispatcher,
        cache: ResponseCache,
        cache_policy: CachePolicy,
        bookkeeper: Bookkeeper,
        clock: Clock,
        cache_epoch: str,
    ) -> None:
        self.planner = planner
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._cache = cache
        self._cache_policy = cache_policy
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
        key = self._key(call, plan, fields)
        if key is not None and call.options.cache != "refresh":
            replayed = await self._look_up(call, plan, key)
            if replayed is not None:
                return replayed
        if call.options.cache == "only":
            raise NotFound("no cached answer, and x-turnout-cache: only was asked for", code="cache_miss")
        return await self._dispatch(call, plan, key)

    def cacheable(self, call: Call) -> bool:
        """Whether this call may be answered from, and kept in, the cache."""
        policy = self._cache_policy
        return policy.enabled and call.options.cache != "off" and (policy.always or call.deterministic)

    async def aclose(self) -> None:
        """Wait for answers still being written to the cache."""
        if self._background:
            await asyncio.gather(*self._background)

    def _plan(self, call: Call) -> Plan:
        return self.planner.plan(call, self._fleet.state.lengths)

    def _key(self, call: Call, plan: Plan, fields: Fields | None) -> bytes | None:
        if fields is None or not self.cacheable(call):
            return None
        return cache_key(call.tenant, call.endpoint, self._cache_epoch, {**fields, "model": plan.model})

    async def _look_up(self, call: Call, plan: Plan, key: bytes) -> ReplayedAnswer | None:
        started_ns = self._clock.now_ns()
        cached = await self._cache.get(key)
        waited_ns = self._clock.now_ns() - started_ns
        self._books.stage("cache", waited_ns)
        self._books.cache_lookup(plan.model, "miss" if cached is None else "hit", waited_ns)
        if cached is None:
            return None
        return ReplayedAnswer(cached, self._books.hit(call, plan, cached), plan.route.slo)

    async def _dispatch(self, call: Call, plan: Plan, key: bytes | None) -> LiveAnswer:
        answer: LiveAnswer | None = None

        def settled(attempt: Attempt) -> None:
            cost = self._books.settle(call, plan, attempt, "off" if key is None else "miss")
            if answer is not None:
                answer.cost = cost
                answer.energy_j = attempt.energy_j()

        opened = await self._dispatcher.open(plan.route, plan.generation, settled, call.tenant)
        cache: CacheResult = "off" if key is None else "miss"
        keep = None if key is None else lambda done: self._keep(key, done)
        answer = LiveAnswer(plan.model, cache, opened, self._clock, keep)
        return answer

    async def _keep(self, key: bytes, answer: LiveAnswer) -> None:
        """Store a complete answer; its reader does not wait for a network."""
        cached = answer.complete(self._clock.wall_ns())
        if not self._cache.remote:
            await self._cache.set(key, cached)
            return
        task = asyncio.get_running_loop().create_task(self._cache.set(key, cached))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
