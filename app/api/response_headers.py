"""The response headers every client can rely on: always the first three, the others once they are known."""

from __future__ import annotations

import math

from app.answers import Answer
from app.api.asgi import Headers
from app.api.exchange import Exchange
from app.errors import ApiError
from app.routing.types import Decision
from backends.clock import Clock

UNDISPATCHED: Headers = [(b"x-turnout-cache", b"off"), (b"x-turnout-attempts", b"0")]


class ResponseHeaders:
    """Builds header lists for one configuration."""

    def __init__(self, clock: Clock, config_hash: str) -> None:
        self._clock = clock
        self._config = (b"x-turnout-config", config_hash.encode())

    def always(self, request_id: str, overhead_ns: int) -> Headers:
        """What every response carries, errors included."""
        return [
            (b"x-request-id", request_id.encode()),
            self._config,
            (b"x-turnout-overhead-ms", b"%.3f" % (overhead_ns / 1e6)),
        ]

    def answered(self, exchange: Exchange, answer: Answer, *, final: bool) -> Headers:
        """For an answer; `final` when usage and cost are known (a non-streamed one)."""
        headers = self._of(exchange)
        headers.append((b"x-turnout-cache", answer.cache.encode()))
        headers.append((b"x-turnout-attempts", b"%d" % answer.attempts))
        if answer.decision is not None:
            headers += _decision(answer.decision)
        if answer.age_s is not None:
            headers.append((b"age", b"%d" % answer.age_s))
        if final:
            if answer.cost is not None:
                headers.append((b"x-turnout-cost-usd", _usd(answer.cost.total_nusd)))
            if answer.saved_nusd is not None:
                headers.append((b"x-turnout-saved-usd", _usd(answer.saved_nusd)))
        return headers

    def undecided(self, exchange: Exchange) -> Headers:
        """For what is answered without a decision."""
        return self._of(exchange)

    def decided(self, exchange: Exchange, decision: Decision) -> Headers:
        """For a dry run: nothing was looked up or dispatched."""
        return [*self._of(exchange), *UNDISPATCHED, *_decision(decision)]

    def failed(self, exchange: Exchange, error: ApiError) -> Headers:
        """For an error, with when to come back if that is known."""
        headers = self._of(exchange, error.waited_ns)
        if error.decision is not None:
            headers.append((b"x-turnout-cache", exchange.cache.encode()))
            headers.append((b"x-turnout-attempts", b"%d" % error.attempts))
            headers += _decision(error.decision)
        return headers + retry_headers(error)

    def _of(self, exchange: Exchange, waited_ns: int = 0) -> Headers:
        headers = self.always(exchange.request_id, self._overhead_ns(exchange) - waited_ns)
        if exchange.wire.id_header is not None:
            headers.append((exchange.wire.id_header, exchange.request_id.encode()))
        return headers

    def _overhead_ns(self, exchange: Exchange) -> int:
        waited_ns = 0 if exchange.answer is None else exchange.answer.waited_ns
        return self._clock.now_ns() - exchange.started_ns - waited_ns


def retry_headers(error: ApiError) -> Headers:
    """`retry-after-ms` and its coarser standard twin."""
    headers: Headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after-ms", b"%d" % math.ceil(error.retry_after_s * 1000)))
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
    if error.status == 405 and error.allow is not None:
        headers.append((b"allow", error.allow.encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def _decision(decision: Decision) -> Headers:
    headers: Headers = [
        (b"x-turnout-policy", decision.policy.encode()),
        (b"x-turnout-decision", decision.id.encode()),
    ]
    if decision.chosen is not None:
        headers.append((b"x-turnout-backend", decision.chosen.view.name.encode()))
        headers.append((b"x-turnout-substrate", decision.chosen.view.substrate.encode()))
    return headers


def _usd(nusd: int) -> bytes:
    return b"%d.%09d" % divmod(nusd, 1_000_000_000)
