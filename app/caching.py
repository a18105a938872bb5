"""What is cached of which model, by the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from app.cache.build import relay_of
from app.cache.shared import Relay
from app.cache.tiers import AnswerCache
from app.config.caching import CacheOff
from app.config.models import Config
from app.flights import Flights


class CacheRule(NamedTuple):
    """Which answers of a model are cached: all, or those that their request determines. For how long they are given
    as fresh, and for how much longer as stale while a new one is made."""

    always: bool
    ttl_s: float
    stale_s: float


class Caching(NamedTuple):
    """The cache and its rules by model; a model without one is not cached. `flights` is None where identical requests
    at the same time are each asked, `relay` where other processes are not asked."""

    answers: AnswerCache
    rules: Mapping[str, CacheRule]
    flights: Flights | None
    relay: Relay | None = None


def caching(config: Config, answers: AnswerCache | None) -> Caching | None:
    """Each model's rule, what it does not say being as under `cache`."""
    common = config.cache
    if answers is None or isinstance(common, CacheOff):
        return None
    rules: dict[str, CacheRule] = {}
    for name, model in config.models.items():
        own = model.cache
        when = common.when if own.when is None else own.when
        if when != "off":
            ttl_s = common.ttl_s if own.ttl_s is None else own.ttl_s
            stale_s = common.stale_s if own.stale_s is None else own.stale_s
            rules[name] = CacheRule(when == "always", ttl_s, stale_s)
    flights = Flights(common.max_followers, common.max_value_bytes) if common.coalesce else None
    relay = relay_of(answers) if common.coalesce else None
    return Caching(answers, rules, flights, relay)
