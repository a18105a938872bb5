"""How many requests runs have played so far, told between processes while they are at it.

A file mapped into memory: each run writes one number of its own, and whoever shows progress adds them up when it draws.
Nobody waits for anybody; a run pays for an addition per request.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from app.replay.records import Served

BYTES = 8


class Place(NamedTuple):
    """Where one run counts. Can be sent to another process."""

    file: Path
    at: int

    @contextmanager
    def counting(self) -> Iterator[Callable[[Served], None]]:
        """Counts each request it is told of."""
        with _mapped(self.file) as numbers:
            at = self.at

            def count(_: Served) -> None:
                numbers[at] += 1

            yield count


class Tally(NamedTuple):
    """The numbers of all runs."""

    places: tuple[Place, ...]
    numbers: memoryview

    def done(self) -> int:
        """Requests played so far, by all of them together."""
        return sum(self.numbers)


@contextmanager
def tally(runs: int) -> Iterator[Tally]:
    """One for so many runs, of one file that is gone afterwards."""
    with TemporaryDirectory(prefix="turnout-") as folder:
        file = Path(folder) / "tally"
        file.write_bytes(bytes(BYTES * runs))
        with _mapped(file) as numbers:
            yield Tally(tuple(Place(file, at) for at in range(runs)), numbers)


@contextmanager
def _mapped(file: Path) -> Iterator[memoryview]:
    with (
        file.open("r+b") as opened,
        mmap.mmap(opened.fileno(), 0) as mapped,
        memoryview(mapped) as whole,
        whole.cast("Q") as numbers,
    ):
        yield numbers
