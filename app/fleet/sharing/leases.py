"""How many slots of a cap a process asks for. Pure.

A process holds what it uses and a chunk besides, so that the next requests need not wait for Redis; a sixteenth of the
cap, if four processes share it. Who found none free asks for two chunks. When somebody else wants for slots, nobody
takes more than its part, and an idle process keeps none.
"""

from __future__ import annotations

from collections.abc import Collection

CHUNKS = 4


def want(cap: int, process: str, others: Collection[str], used: int, *, missed: bool, wanted_elsewhere: bool) -> int:
    """How many to hold from now on; at most the cap."""
    chunk = max(1, cap // (CHUNKS * (1 + len(others))))
    if wanted_elsewhere:
        if not used and not missed:
            return 0
        return min(max(1, part(cap, process, others)), used + chunk)
    return min(cap, used + chunk * (2 if missed else 1))


def part(cap: int, process: str, others: Collection[str]) -> int:
    """What is this process's when nobody can be asked: parts of all processes together are the cap."""
    known = sorted({process, *others})
    whole, rest = divmod(cap, len(known))
    return whole + (known.index(process) < rest)
