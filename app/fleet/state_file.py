"""The routing state as plain data and back: for `GET /admin/state`, and for deciding without a gateway.

Each slot of `RoutingState` has its part here (a test holds the two together). Leaves (`Load`, `Correction`, `Lengths`)
go slot by slot: numbers (or None, where a new leaf has None), and dictionaries of numbers as lists of pairs. Times are
told relative to the moment of the dump.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple, TypeVar

from app.errors import StateFileError
from app.routing.state import Correction, Gate, Lengths, Load, RoutingState, Scraped

VERSION = 1

T = TypeVar("T")
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


def _leaf(thing: object) -> dict[str, Plain]:
    """A leaf's slots."""
    return {name: _value(getattr(thing, name)) for name in _slots(type(thing))}


def _value(value: object) -> Plain:
    return list(map(list, value.items())) if isinstance(value, dict) else value


def _remade(kind: Callable[[], T], data: Mapping[str, Plain]) -> T:
    """A leaf from its slots.

    Raises: TypeError; KeyError.
    """
    made = kind()
    for name in _slots(type(made)):
        value, initial = data[name], getattr(made, name)
        if isinstance(initial, dict):
            value = {_number(name, key): _number(name, held) for key, held in value}
        elif value is not None or initial is not None:
            value = _number(name, value)
        setattr(made, name, value)
    return made


def _number(name: str, value: Plain) -> float:
    """Raises: ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{name} is no number")
    return value


def _slots(kind: type) -> Iterable[str]:
    slots: Iterable[str] = vars(kind)["__slots__"]
    return slots


def _by_name(slot: str, kind: Callable[[], object]) -> Part:
    """A dictionary of leaves by name."""

    def put(state: RoutingState, data: Plain, now_ns: int) -> None:
        setattr(state, slot, {str(name): _remade(kind, leaf) for name, leaf in data.items()})

    return Part(lambda state, now_ns: {name: _leaf(leaf) for name, leaf in getattr(state, slot).items()}, put)


def _dump_corrections(state: RoutingState, now_ns: int) -> Plain:
    return [
        {"backend": backend, "model": model, "ttft": _leaf(ttft), "tpot": _leaf(tpot)}
        for (backend, model), (ttft, tpot) in state.corrections.items()
    ]


def _restore_corrections(state: RoutingState, data: Plain, now_ns: int) -> None:
    state.corrections = {
        (str(each["backend"]), str(each["model"])): (
            _remade(Correction, each["ttft"]),
            _remade(Correction, each["tpot"]),
        )
        for each in data
    }


def _restore_cursors(state: RoutingState, data: Plain, now_ns: int) -> None:
    state.cursors = {str(name): int(position) for name, position in data.items()}


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


PARTS: Mapping[str, Part] = {
    "loads": _by_name("loads", Load),
    "corrections": Part(_dump_corrections, _restore_corrections),
    "cursors": Part(lambda state, now_ns: dict(state.cursors), _restore_cursors),
    "lengths": _by_name("lengths", Lengths),
    "gates": Part(_dump_gates, _restore_gates),
    "scraped": Part(_dump_scraped, _restore_scraped),
}
