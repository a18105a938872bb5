"""What a request would take and cost on each backend: the profile's physics, corrected by what was observed.

    u     = prompt tokens not believed to be in the backend's prefix cache
    n     = sequences in flight there + this request's, at most C decode together
    R     = share of its time that it has spent reading prompts of late (0 where prompts have lanes of their own)
    TPOT0 = (d0 + d1 n + d2 (context tokens in flight - 1,500 n)) / (1 - R)
    wait  = what is left of the reading of prompts dispatched before
          + (sequences over C) S / C  or  (context tokens over the KV room) S / room, the longer;  S = tokens TPOT0
    TTFT0 = network + overhead + k u + wait + (TPOT0 if it is at work: a step in progress is not interrupted)
    TTFT, TPOT = TTFT0, TPOT0 times the factor of their stratum; q90 likewise (`residuals`)
    E2E   = TTFT + (completion tokens of a choice - 1) TPOT

A backend that is cold or warms up (`warmth`) is predicted as of the moment it is warm, and what is left until then
added.

    harm  = expected broken promises of pace among those there (`_harm`)

Strata are load (idle; busy; queued, when there is a wait) x size (binary digits of u, or of the expected answer).
The prior sees the profile, this gateway's own count of what is in flight and what other processes tell of theirs
(`Load.others`: their sequences and context add to n, their unread prompts to the wait): never an emulator's state,
which a router of real servers has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Literal

from app.routing.reading import Pace
from app.routing.residuals import PRIOR_Q90
from app.routing.slo import MOST_HARM_LOOKED_AT
from app.routing.state import READING_TAU_NS, Learned, Lengths, Load, RoutingState
from app.routing.strangers import loads_with_strangers
from app.routing.types import BackendView, Prediction, RouteRequest, Terms
from app.routing.warmth import JUST_BEFORE_NS, left_ns, still_cold, warmed_up
from backends.types import STRAIGHT_PROMPT_TOKENS

CostBasis = Literal["reference", "marginal"]
Forecast = Callable[[RouteRequest, Sequence[BackendView], RoutingState, int], Sequence[Prediction]]
"""(request, views, state, now_ns) -> a prediction for each view, in order."""

IDLE, BUSY, QUEUED = 0, 64, 128
"""Load part of a stratum's key; the size part is below 64."""

_made = tuple.__new__
"""A NamedTuple's own constructor takes twice as long."""

UNKNOWN_LENGTHS = Lengths()

MOST_READING = 0.8
"""Beyond this share of reading, decode is not believed to be stretched any further."""


def forecaster(basis: CostBasis) -> Forecast:
    """The forecast every policy uses, costs on the given basis (seconds, nano-USD)."""
    priced = 0 if basis == "reference" else 1

    def forecast(
        request: RouteRequest, views: Sequence[BackendView], state: RoutingState, now_ns: int
    ) -> list[Prediction]:
        loads = loads_with_strangers(state, views, now_ns) if state.scraped else state.loads
        predictions = _forecast(request, views, state, loads, now_ns, priced)
        if state.warmth:
            for place, left_ns in still_cold(views, state, now_ns):
                at_ns = now_ns + left_ns - JUST_BEFORE_NS
                (warm,) = _forecast(request._replace(blocks=()), (views[place],), state, loads, at_ns, priced, now_ns)
                predictions[place] = warmed_up(warm, left_ns)
        return predictions

    return forecast


def predict(
    request: RouteRequest, view: BackendView, state: RoutingState, basis: CostBasis, now_ns: int = 0
) -> Prediction:
    """One prediction, for whoever needs only one."""
    return forecaster(basis)(request, (view,), state, now_ns)[0]


def costs_nusd(
    request: RouteRequest, views: Sequence[BackendView], state: RoutingState, now_ns: int, basis: CostBasis
) -> list[float]:
    """What the request would cost at each, in nano-USD, cached prompt tokens taken into account."""
    priced, prompt_tokens, blocks = 0 if basis == "reference" else 1, request.prompt_tokens, request.blocks
    answer_tokens = request.completion_tokens
    costs = []
    for view in views:
        fee, read, found, answered = view.prices[priced]
        cost = fee + read * prompt_tokens + answered * answer_tokens
        if blocks and view.terms.prefix_cache and (table := state.prefixes.get(view.name)) is not None:
            if state.warmth and left_ns(state, view, now_ns):
                costs.append(cost)
                continue
            cost -= (read - found) * int(table.share(blocks, now_ns) * prompt_tokens)
        costs.append(cost)
    return costs


def _forecast(
    request: RouteRequest,
    views: Sequence[BackendView],
    state: RoutingState,
    loads: Mapping[str, Load],
    now_ns: int,
    priced: int,
    known_ns: int | None = None,
) -> list[Prediction]:
    """One pass over the views; `priced` says which price list holds, `known_ns` as of when corrections are (now)."""
    known_ns = now_ns if known_ns is None else known_ns
    choices, prompt_tokens, blocks = request.choices, request.prompt_tokens, request.blocks
    answer_tokens = request.completion_tokens / choices
    own_context = choices * (request.longest_prompt_tokens + answer_tokens / 2)
    prompt_size, answer_size = prompt_tokens.bit_length(), int(answer_tokens).bit_length()
    learned_of, lengths = state.learned, state.lengths.get(request.model, UNKNOWN_LENGTHS)
    predictions = []
    for view in views:
        terms = view.terms
        base_s, _, token_s, pair_s, decode_s, sequence_s, context_s, _, _, _, _, _, keeps = terms
        cached, unread, size = 0, prompt_tokens, prompt_size
        if blocks and keeps and (table := state.prefixes.get(view.name)) is not None:
            cached = int(table.share(blocks, now_ns) * prompt_tokens)
            unread -= cached
            size = unread.bit_length()
        learned = learned_of.get(view.key)
        slow, slow_decode = (1.0, 1.0) if learned is None else (learned.reading.factor, learned.decoding.factor)
        prompt_s = (token_s * unread + (pair_s and _bend_s(pair_s, prompt_tokens, cached))) * slow
        load = loads.get(view.name)
        harm, wait_s, level = 0.0, 0.0, 0
        if load is None or not (load.sequences or load.others.sequences):
            stratum = IDLE
            step_s = tpot_s = (decode_s + sequence_s * choices + context_s * own_context) * slow_decode
            ttft_s = base_s * slow + prompt_s
            pace = _pace(terms, slow, step_s, 0.0)
        else:
            pace, step_s, tpot_s, ttft_s, wait_s, read_s = _beside_others(
                terms, load, slow, slow_decode, choices, own_context, prompt_s, answer_tokens, now_ns
            )
            stratum = QUEUED if wait_s > 0.0 else BUSY
            level = (load.sequences + load.others.sequences).bit_length() << 6
            slo_s = load.tightest_s()
            if slo_s is not None and slo_s > step_s:
                harm = _harm(load, lengths, prompt_s, slo_s, step_s, read_s, now_ns)
        ttft_key, tpot_key = stratum + size, level + answer_size
        first, first_q90, later, later_q90, pace_q90 = _corrected(learned, ttft_s, tpot_s, ttft_key, tpot_key, known_ns)
        fee, read, found, answered = view.prices[priced]
        cost = fee + read * unread + found * cached + answered * request.completion_tokens
        predictions.append(
            _made(
                Prediction,
                (
                    first, first_q90, later, later_q90, pace_q90, max(0.0, answer_tokens - 1.0), wait_s, cost,
                    ttft_s, tpot_s, ttft_key, tpot_key, cached, prompt_s,
                    pace, slow, step_s, slow_decode, harm, 0.0,
                ),
            )
        )  # fmt: skip
    return predictions


def _corrected(
    learned: Learned | None, ttft_s: float, tpot_s: float, ttft_key: int, tpot_key: int, now_ns: int
) -> tuple[float, float, float, float, float]:
    """(TTFT, its q90, TPOT, its q90, that given the reading foretold) from the priors."""
    if learned is None:
        pace_q90_s = tpot_s * PRIOR_Q90
        return ttft_s, ttft_s * PRIOR_Q90, tpot_s, pace_q90_s, pace_q90_s
    residuals = learned.ttft
    first = residuals.strata.get(ttft_key, residuals.pool)
    if first.made_from != first.samples or now_ns > first.fresh_until_ns:
        residuals.refresh(first, now_ns)
    residuals = learned.tpot
    later = residuals.strata.get(tpot_key, residuals.pool)
    if later.made_from != later.samples or now_ns > later.fresh_until_ns:
        residuals.refresh(later, now_ns)
    return (
        ttft_s * first.factor,
        ttft_s * first.factor_q90,
        tpot_s * later.factor,
        tpot_s * later.factor_q90,
        tpot_s * later.factor_given,
    )


def _beside_others(
    terms: Terms,
    load: Load,
    slow: float,
    slow_decode: float,
    choices: int,
    own_context: float,
    prompt_s: float,
    answer_tokens: float,
    now_ns: int,
) -> tuple[Pace, float, float, float, float, float]:
    """(pace, a step without prompts, TPOT0, TTFT0, how much of that is waiting, position read) beside others."""
    base_s, network_s, token_s, _, decode_s, sequence_s, context_s, limit, room, prefill, _, _, _ = terms
    others = load.others
    sequences = load.sequences + others.sequences + choices
    context = load.resident_tokens + others.resident_tokens + own_context
    crowd = 0.0
    step_s = sequence_s * sequences + context_s * context
    if sequences > limit or context > room:
        step_s *= min(limit / sequences, room / context)
        crowd = max((sequences - limit) / limit, (context - room) / room)
    step_s = (decode_s + step_s) * slow_decode
    since_s = (now_ns - load.heard.last_ns(now_ns)) / 1e9
    pace = _pace(terms, slow, step_s, step_s - since_s if since_s < step_s else 0.5 * step_s)
    if prefill == "parallel":
        wait_s = crowd * answer_tokens * step_s
        return pace, step_s, step_s, base_s * slow + 0.5 * step_s + prompt_s + wait_s, wait_s, load.reading.sent_s
    share = load.reading_s * 1e9 / (READING_TAU_NS + now_ns - load.reading_ns) + others.reading_s * 1e9 / READING_TAU_NS
    tpot_s = step_s / (1.0 - (share if share < MOST_READING else MOST_READING))
    reading_s, behind_s, read_s = load.reading.takes_s(prompt_s, pace, now_ns)
    crowd_s = crowd * answer_tokens * tpot_s
    crowd_s += others.prompt_tokens * token_s * slow
    return pace, step_s, tpot_s, network_s + reading_s + crowd_s, behind_s + crowd_s, read_s


def _harm(
    load: Load, lengths: Lengths, prompt_s: float, slo_s: float, step_s: float, read_s: float, now_ns: int
) -> float:
    """How many of those there are expected to miss their pace for the reading of this prompt.

    An answer of N tokens can be held up for (N - 1) (SLO - step) in all. One that began when prompts had been read up
    to r will have been held up for (sent + this prompt - r), whatever comes later; so with F the learned law of lengths
    it is broken with probability F(x) - F(j), where x - 1 tokens would bear that and j have been made already. Answers
    begun lately are looked at 1, 2, 4, 8 ... back, each standing for those between. When other processes' answers began
    is not told: they are taken to be of all ages.
    """
    reading = load.reading
    per_token_s, shorter = slo_s - step_s, lengths.shorter
    end_s = reading.sent_s + prompt_s
    harm = 0.0
    if pending := len(reading.waiting):
        held_s = prompt_s + 0.5 * (reading.sent_s - reading.read_s)
        harm = pending * shorter(held_s / per_token_s + 1.0)
    if others := load.others.sequences:
        tokens = prompt_s / per_token_s
        harm += others * shorter(tokens + 1.0) * min(1.0, tokens / lengths.completion_tokens)
    begun, back, step = load.begun, 1, 1
    while back <= len(begun):
        since_ns, at_s = begun[-back]
        bearing = (end_s - at_s) / per_token_s + 1.0
        made = ((now_ns - since_ns) / 1e9 - (read_s - at_s)) / step_s
        if made >= bearing:
            break
        harm += step * (shorter(bearing) - shorter(made))
        if harm > MOST_HARM_LOOKED_AT:
            break
        back, step = back + step, step * 2 if back > 1 else 1
    return harm


def _bend_s(pair_s: float, tokens: int, cached: int) -> float:
    """What attention adds to a straight line beyond 2,048 tokens, when the first `cached` need not be read."""
    if tokens <= STRAIGHT_PROMPT_TOKENS:
        return 0.0
    before = cached * max(0, cached - STRAIGHT_PROMPT_TOKENS)
    return pair_s * (tokens * (tokens - STRAIGHT_PROMPT_TOKENS) - before)


def _pace(terms: Terms, slow: float, decode_s: float, left_s: float) -> Pace:
    """How it reads; `decode_s` is a step without prompts, of which `left_s` are left."""
    base_s, _, token_s, _, _, _, _, _, _, prefill, step_tokens, lag_steps, _ = terms
    if prefill == "serial":  # a prompt is a step of its own, whatever its length
        return _made(Pace, (left_s, base_s * slow, inf, 0))
    budget_s = inf if step_tokens == inf else token_s * slow * step_tokens
    return _made(Pace, (left_s, decode_s, budget_s, lag_steps))
