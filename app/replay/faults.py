"""Backends that go down during a replay and come back: what is asked of them meanwhile is refused, what runs breaks."""

from __future__ import annotations

import re
from typing import NamedTuple

from app.replay.stage import Server

_FAULT = re.compile(r"^(?P<backend>[^:]+):(?P<from>[0-9]+(?:\.[0-9]+)?)-(?P<until>[0-9]+(?:\.[0-9]+)?)$")


class Fault(NamedTuple):
    """A backend is down from one time to another, in seconds of the trace."""

    backend: str
    from_s: float
    until_s: float


class Change:
    """The moment in which a backend goes down or comes back."""

    __slots__ = ("down", "server")

    def __init__(self, server: Server, *, down: bool) -> None:
        self.server = server
        self.down = down


def parse(text: str) -> Fault:
    """`NAME:FROM-UNTIL`, as h100-70b:60-120.

    Raises: ValueError.
    """
    found = _FAULT.match(text)
    if found is None or float(found["from"]) >= float(found["until"]):
        raise ValueError(f"'{text}' is not like h100-70b:60-120")
    return Fault(found["backend"], float(found["from"]), float(found["until"]))
