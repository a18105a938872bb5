"""The routing state as plain data and back: for `GET /admin/state`, and for deciding without a gateway.

Every slot goes through one codec. What JSON has no word for carries a tag `!`: an object slot by slot (`{"!": "Load",
"sequences": 2, ...}`), a tuple or deque, a dictionary whose keys are no text, an infinite number. Only classes listed
here are made, and a slot takes only what a new object has there. Times stay as they are: whoever restores a state goes
on from the time at which it was dumped (`now_ns`).

What is added to the state is added to `VALUES` (a slot) or `KINDS` (a class that values contain); a test holds them
together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import isfinite
from typing import Any, get_type_hints

from app.errors import StateFileError
from app.routing.state import Correction, Gate, Lengths, Load, RoutingState, Scraped

VERSION = 1
TAG = "!"

VALUES: Mapping[str, type] = {
    "loads": Load,
    "corrections": tuple,
    "cursors": int,
    "lengths": Lengths,
    "gates": Gate,
    "scraped": Scraped,
}
"""Slots of `RoutingState`, all of them dictionaries, and what their values are."""

KINDS: Mapping[str, type] = {kind.__name__: kind for kind in (Correction, Gate, Lengths, Load, Scraped)}

Plain = Any


def dump(state: RoutingState, now_ns: int) -> dict[str, Plain]:
    """As JSON can hold it; `now_ns` is the monotonic time that its times are of."""
    return {"version": VERSION, "now_ns": now_ns, **{slot: _plain(getattr(state, slot)) for slot in VALUES}}


def restore(data: Mapping[str, Plain], into: RoutingState | None = None) -> RoutingState:
    """What was dumped, in a new state or one that is still empty; slots that are not there stay empty.

    Raises: StateFileError.
    """
    if data.get("version") != VERSION:
        raise StateFileError(f"a state of version {VERSION} is needed, not {str(data.get('version'))[:40]}")
    state = RoutingState() if into is None else into
    for slot, kind in VALUES.items():
        try:
            values = _made(data.get(slot, {}))
            if not isinstance(values, dict) or not all(_fits(value, kind) for value in values.values()):
                raise TypeError(f"needs a dictionary of {kind.__name__}")
        except (TypeError, ValueError, KeyError) as error:
            raise StateFileError(f"{slot}: not as it was dumped: {str(error)[:200]}") from None
        getattr(state, slot).update(values)
    return state


def _plain(value: object) -> Plain:
    """Raises: TypeError for a class that is not listed."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else {TAG: "float", "of": str(value)}
    name = type(value).__name__
    if KINDS.get(name) is type(value):
        return {TAG: name, **{slot: _plain(getattr(value, slot)) for slot in _slots(type(value))}}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _plain(held) for key, held in value.items()}
        return {TAG: "dict", "of": [[_plain(key), _plain(held)] for key, held in value.items()]}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if type(value) in (tuple, deque):
        return {TAG: name, "of": [_plain(each) for each in value]}  # type: ignore[attr-defined]
    raise TypeError(f"{name} is not among the kinds of app.fleet.state_file")


def _made(data: Plain) -> Any:
    """Raises: TypeError; ValueError; KeyError."""
    if isinstance(data, float) and not isfinite(data):
        raise ValueError(f"{data} is no number")
    if isinstance(data, list):
        return [_made(each) for each in data]
    if not isinstance(data, dict):
        return data
    tag = data.get(TAG)
    if tag is None:
        return {key: _made(held) for key, held in data.items()}
    if tag == "float":
        return float(data["of"])
    if tag == "dict":
        return {_made(key): _made(held) for key, held in data["of"]}
    if tag == "tuple":
        return tuple(_made(data["of"]))
    if tag == "deque":
        return deque(_made(data["of"]))
    if tag not in KINDS:
        raise TypeError(f"there is no kind {str(tag)[:40]!r}")
    return _object(KINDS[tag], data)


def _object(kind: type, data: Mapping[str, Plain]) -> Any:
    values = {slot: _made(data[slot]) for slot in _slots(kind)}
    if issubclass(kind, tuple):
        hints = get_type_hints(kind)
        wrong = [slot for slot, value in values.items() if not _fits(value, hints[slot])]
    else:
        made = kind()
        wrong = [slot for slot, value in values.items() if not _may_stand_for(value, getattr(made, slot))]
    if wrong:
        raise TypeError(f"{kind.__name__} does not take that for {', '.join(wrong)}")
    if issubclass(kind, tuple):
        return kind(**values)
    for slot, value in values.items():
        setattr(made, slot, value)
    return made


def _slots(kind: type) -> tuple[str, ...]:
    found: tuple[str, ...] = kind._fields if hasattr(kind, "_fields") else tuple(vars(kind)["__slots__"])
    return found


def _may_stand_for(value: object, initial: object) -> bool:
    """Where a new object has nothing, a number may be or nothing; else what it has, or another number for a number."""
    return _fits(value, float | None) if initial is None else _fits(value, type(initial))


def _fits(value: object, kind: Any) -> bool:
    """As isinstance, except that truths are no numbers, and whole numbers are numbers too."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (isinstance(value, int | float) and isinstance(0.0, kind))
