"""The names of a prompt's whole KV blocks, each of which stands for everything before it too."""

from __future__ import annotations

from collections.abc import Sequence


class Chain:
    """`names`, each of which is cut into `parts` blocks; from block `start` to before block `stop`. Never changed.

    A replayed prompt has names for 512 tokens at a time and hundreds of blocks: they are not spelled out one by one.
    """

    __slots__ = ("_names", "_parts", "_start", "_stop")

    def __init__(self, names: Sequence[int], parts: int = 1, start: int = 0, stop: int | None = None) -> None:
        self._names = names
        self._parts = parts
        self._start = start
        most = len(names) * parts
        self._stop = most if stop is None or stop > most else stop

    def __len__(self) -> int:
        return self._stop - self._start

    def at(self, place: int) -> int:
        """The name of a block, from 0."""
        parts = self._parts
        if parts == 1:
            return self._names[self._start + place]
        name, part = divmod(self._start + place, parts)
        return self._names[name] * parts + part

    def part(self, start: int, stop: int) -> Chain:
        """The blocks from one to before another."""
        return Chain(self._names, self._parts, self._start + start, self._start + stop)


def chained(names: Chain | Sequence[int] | None) -> Chain | None:
    """A chain of names that each stand for one block."""
    return names if names is None or isinstance(names, Chain) else Chain(names)
