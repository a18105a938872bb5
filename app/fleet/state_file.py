"""The routing state as plain data and back: for `GET /admin/state`, and for deciding without a gateway.

Each slot of `RoutingState` has its part here (a test holds the two together). Times are told relative to the moment of
the dump, in seconds: a clock's own zero means nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, isfinite
from typing import Any, NamedTuple

from app.errors import StateFileError
from app.routing.prefixes import PrefixTable
from app.routing.reading import Pace, Reading
from app.routing.residuals import Residuals, Stratum
from app.routing.state import Gate, Learned, Lengths, Load, Others, RoutingState, Scraped, Warmth

VERSION = 2

NS = 1e9
Plain = Any


class Part(NamedTuple):
    """How one slot is dumped (state, now) and restored (state, what was dumped, now)."""

    dump: Callable[[RoutingState, int], Plain]
    restore: Callable[[RoutingState, Plain, int], None]


def dump(state: RoutingState, now_ns: int = 0) -> dict[str, Plain]:
    """As JSON can hold it; `now_ns` is the monotonic time that its times are of."""
    return {"version": VERSION, **{name: part.dump(state, now_ns) for name, part in PARTS.items()}}


def restore(data: Mapping[str, Plain], now_ns: int = 0) -> RoutingState:
    """What was dumped, as if it were `now_ns`; parts that are not there are as in a new gateway.

    Raises: StateFileError.
    """
    if data.get("version") != VERSION:
        raise StateFileError(f"a state of version {VERSION} is needed, not {str(data.get('version'))[:40]}")
    state = RoutingState()
    for name, part in PARTS.items():
        if name not in data:
            continue
        try:
            part.restore(state, data[name], now_ns)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise StateFileError(f"{name}: not as `dump` writes it: {str(error)[:200]}") from None
    return state


def _dump_load(load: Load, now_ns: int) -> Plain:
    reading, pace = load.reading, load.reading.pace
    return {
        "sequences": load.sequences,
        "resident_tokens": load.resident_tokens,
        "pending_prompt_tokens": load.pending_prompt_tokens,
        "others": list(load.others),
        "tpot_slos": [[slo_s, count] for slo_s, count in load.tpot_slos.items()],
        "reading_s": load.reading_s,
        "reading_age_s": (now_ns - load.reading_ns) / NS,
        "heard_age_s": (now_ns - load.heard.last_ns(now_ns)) / NS,
        "begun": [[(now_ns - began_ns) / NS, read_s] for began_ns, read_s in load.begun],
        "reading": {
            "sent_s": reading.sent_s,
            "read_s": reading.read_s,
            "chunk_s": reading.chunk_s,
            "starts_in_s": (reading.start_ns - now_ns) / NS,
            "ends_in_s": (reading.end_ns - now_ns) / NS,
            "pace": [pace.left_s, pace.step_s, None if pace.budget_s == inf else pace.budget_s, pace.lag_steps],
            "ended_age_s": (now_ns - reading.ended_ns) / NS,
            "pending": [
                [ticket, end_s, (now_ns - sent_ns) / NS] for ticket, (end_s, sent_ns) in reading.waiting.items()
            ],
        },
    }


def _load(data: Plain, now_ns: int) -> Load:
    load, told = Load(), data["reading"]
    load.sequences = int(data["sequences"])
    load.resident_tokens = int(data["resident_tokens"])
    load.pending_prompt_tokens = int(data["pending_prompt_tokens"])
    for slo_s, count in data["tpot_slos"]:
        load.promise(_number(slo_s), int(count))
    if "others" in data:
        sequences, tokens, prompt_tokens, reading_s, tightest_s = data["others"]
        tightest_s = None if tightest_s is None else _number(tightest_s)
        load.others = Others(int(sequences), int(tokens), int(prompt_tokens), _number(reading_s), tightest_s)
    load.reading_s = _number(data["reading_s"])
    load.reading_ns = now_ns - _ns(data["reading_age_s"])
    load.heard.ns = now_ns - _ns(data["heard_age_s"])  # type: ignore[attr-defined]
    load.begun = [(now_ns - _ns(age_s), _number(read_s)) for age_s, read_s in data.get("begun", ())]
    reading = load.reading = Reading()
    reading.sent_s, reading.read_s, reading.chunk_s = (_number(told[name]) for name in ("sent_s", "read_s", "chunk_s"))
    reading.start_ns, reading.end_ns = now_ns + _ns(told["starts_in_s"]), now_ns + _ns(told["ends_in_s"])
    left_s, step_s, budget_s, lag_steps = told["pace"]
    budget_s = inf if budget_s is None else _number(budget_s)
    reading.pace = Pace(_number(left_s), _number(step_s), budget_s, int(lag_steps))
    reading.ended_ns = now_ns - _ns(told["ended_age_s"])
    reading.waiting = {
        int(ticket): (_number(end_s), now_ns - _ns(sent_age_s)) for ticket, end_s, sent_age_s in told["pending"]
    }
    return load


def _dump_stratum(stratum: Stratum, now_ns: int) -> Plain:
    return {
        "centre": stratum.centre,
        "samples": stratum.samples,
        "age_s": (now_ns - stratum.seen_ns) / NS,
        "window": list(stratum.window),
    }


def _stratum(data: Plain, now_ns: int) -> Stratum:
    stratum = Stratum(_number(data["centre"]))
    stratum.samples = int(data["samples"])
    stratum.seen_ns = now_ns - _ns(data["age_s"])
    stratum.window.extend(_number(value) for value in data["window"])
    stratum.ranked = sorted(stratum.window)
    return stratum


def _dump_residuals(residuals: Residuals, now_ns: int) -> Plain:
    return {
        "pool": _dump_stratum(residuals.pool, now_ns),
        "trim": residuals.trim,
        "strata": {str(key): _dump_stratum(each, now_ns) for key, each in residuals.strata.items()},
    }


def _residuals(data: Plain, now_ns: int) -> Residuals:
    made = Residuals()
    made.pool = _stratum(data["pool"], now_ns)
    made.trim = _number(data["trim"])
    made.strata = {int(key): _stratum(each, now_ns) for key, each in data["strata"].items()}
    return made


def _dump_learned(learned: Learned, now_ns: int) -> Plain:
    return {
        "ttft": _dump_residuals(learned.ttft, now_ns),
        "tpot": _dump_residuals(learned.tpot, now_ns),
        "reading": [learned.reading.log, learned.reading.samples],
        "decoding": [learned.decoding.log, learned.decoding.samples],
    }


def _learned(data: Plain, now_ns: int) -> Learned:
    learned = Learned()
    learned.ttft, learned.tpot = _residuals(data["ttft"], now_ns), _residuals(data["tpot"], now_ns)
    for slowness, (log, samples) in ((learned.reading, data["reading"]), (learned.decoding, data["decoding"])):
        slowness.put(_number(log), int(samples))
    return learned


def _dump_lengths(lengths: Lengths, now_ns: int) -> Plain:
    return {
        "characters_per_token": lengths.characters_per_token,
        "completion_tokens": lengths.completion_tokens,
        "prompt_tokens": lengths.prompt_tokens,
        "window": list(lengths.window),
    }


def _lengths(data: Plain, now_ns: int) -> Lengths:
    lengths = Lengths()
    for tokens in data["window"]:
        lengths.answer(int(tokens))
    lengths.characters_per_token = _number(data["characters_per_token"])
    lengths.completion_tokens = _number(data["completion_tokens"])
    lengths.prompt_tokens = _number(data["prompt_tokens"])
    return lengths


def _dump_prefixes(table: PrefixTable, now_ns: int) -> Plain:
    return {
        "trust": table.trust,
        "blocks": [[block, (until_ns - now_ns) / NS] for block, until_ns in table.until_ns.items()],
    }


def _prefixes(data: Plain, now_ns: int) -> PrefixTable:
    table = PrefixTable()
    table.trust = _number(data["trust"])
    table.until_ns = {int(block): now_ns + _ns(left_s) for block, left_s in data["blocks"]}
    return table


def _number(value: Plain) -> float:
    """Raises: ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    return value


def _ns(seconds: Plain) -> int:
    return round(_number(seconds) * NS)


def _by_name(slot: str, dump: Callable[[Any, int], Plain], make: Callable[[Plain, int], object]) -> Part:
    """A dictionary of leaves by name."""

    def put(state: RoutingState, data: Plain, now_ns: int) -> None:
        setattr(state, slot, {str(name): make(leaf, now_ns) for name, leaf in data.items()})

    return Part(lambda state, now_ns: {name: dump(leaf, now_ns) for name, leaf in getattr(state, slot).items()}, put)


def _restore_sticky(state: RoutingState, data: Plain, now_ns: int) -> None:
    state.sticky = {str(name): note if isinstance(note, str) else _number(note) for name, note in data.items()}


def _dump_gates(state: RoutingState, now_ns: int) -> Plain:
    return {
        name: {"reason": gate.reason, "for_s": (gate.until_ns - now_ns) / 1e9}
        for name, gate in state.gates.items()
        if gate.until_ns > now_ns
    }


def _restore_gates(state: RoutingState, data: Plain, now_ns: int) -> None:
    state.gates = {
        str(name): Gate(str(gate["reason"]), now_ns + round(float(gate["for_s"]) * 1e9)) for name, gate in data.items()
    }


def _dump_scraped(state: RoutingState, now_ns: int) -> Plain:
    return {
        name: {
            "running": told.running,
            "waiting": told.waiting,
            "kv_used_ratio": told.kv_used_ratio,
            "age_s": (now_ns - told.at_ns) / 1e9,
            "fresh_for_s": (told.fresh_until_ns - now_ns) / 1e9,
        }
        for name, told in state.scraped.items()
    }


def _restore_scraped(state: RoutingState, data: Plain, now_ns: int) -> None:
    state.scraped = {
        str(name): Scraped(
            int(told["running"]),
            int(told["waiting"]),
            None if told["kv_used_ratio"] is None else float(told["kv_used_ratio"]),
            now_ns - round(float(told["age_s"]) * 1e9),
            now_ns + round(float(told["fresh_for_s"]) * 1e9),
        )
        for name, told in data.items()
    }


def _dump_warmth(known: Warmth, now_ns: int) -> Plain:
    warm_in_s = None if known.warm_ns is None else (known.warm_ns - now_ns) / NS
    return {"warm_in_s": warm_in_s, "used_age_s": (now_ns - known.used_ns) / NS}


def _warmth(data: Plain, now_ns: int) -> Warmth:
    warm_ns = None if data["warm_in_s"] is None else now_ns + _ns(data["warm_in_s"])
    return Warmth(warm_ns, now_ns - _ns(data["used_age_s"]))


PARTS: Mapping[str, Part] = {
    "loads": _by_name("loads", _dump_load, _load),
    "learned": _by_name("learned", _dump_learned, _learned),
    "lengths": _by_name("lengths", _dump_lengths, _lengths),
    "prefixes": _by_name("prefixes", _dump_prefixes, _prefixes),
    "gates": Part(_dump_gates, _restore_gates),
    "scraped": Part(_dump_scraped, _restore_scraped),
    "warmth": _by_name("warmth", _dump_warmth, _warmth),
    "sticky": Part(lambda state, now_ns: dict(state.sticky), _restore_sticky),
}
