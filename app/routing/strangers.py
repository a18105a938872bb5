"""Requests at a backend that no gateway of ours has sent, as far as its engine reports them. Pure.

What an engine says is running and waiting, less what this process and those it shares with know of, is somebody else's
and counts like another process's load. One report that is older than three intervals makes all of them unknown for the
comparison: a figure is compared with its like, and what is not known is not zero. Own counts are never stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.routing.state import Load, RoutingState
from app.routing.types import BackendView
from backends.types import REFERENCE_CONTEXT_TOKENS


def loads_with_strangers(state: RoutingState, views: Sequence[BackendView], now_ns: int) -> Mapping[str, Load]:
    """The loads to predict from; the state's own, if nothing is reported or a report is stale."""
    reports = [(view.name, told) for view in views if (told := state.scraped.get(view.name)) is not None]
    if not reports or any(now_ns > told.fresh_until_ns for _, told in reports):
        return state.loads
    loads = dict(state.loads)
    for name, told in reports:
        load = loads.get(name) or Load()
        others = load.others
        strangers = told.running + told.waiting - load.sequences - others.sequences
        if strangers <= 0:
            continue
        more = others._replace(
            sequences=others.sequences + strangers,
            resident_tokens=others.resident_tokens + strangers * REFERENCE_CONTEXT_TOKENS,
        )
        loads[name] = load.beside(more)
    return loads
