"""Who is next: higher priority first, first come first served within one, the preempted at the head of theirs."""

from __future__ import annotations

from collections import OrderedDict

from backends.emulator.jobs import Job


class WaitingLine:
    """Jobs without a slot. Any of them can leave at once, so nothing is kept of those that have left."""

    __slots__ = ("_first", "_lines", "lanes", "size")

    def __init__(self) -> None:
        self.size = 0
        self.lanes = 0
        self._first: OrderedDict[Job, None] = OrderedDict()
        self._lines = {0: self._first}

    def push(self, job: Job, *, at_head: bool = False) -> None:
        """Join the line of the job's priority, at its end or at its head."""
        line = self._lines.get(job.priority)
        if line is None:
            line = self._lines[job.priority] = OrderedDict()
        line[job] = None
        if at_head:
            line.move_to_end(job, last=False)
        self.size += 1
        self.lanes += job.width
        if len(self._lines) > 1:
            self._sort_out()

    def head(self) -> Job | None:
        """Who is next."""
        return next(iter(self._first)) if self.size else None

    def remove(self, job: Job) -> bool:
        """Leave the line; False if the job was not in it."""
        line = self._lines.get(job.priority)
        if line is None or job not in line:
            return False
        del line[job]
        self.size -= 1
        self.lanes -= job.width
        if not line and len(self._lines) > 1:
            self._sort_out()
        return True

    def _sort_out(self) -> None:
        """Find the first line that is not empty, and drop the empty ones but for one."""
        self._lines = {priority: line for priority, line in self._lines.items() if line} or {0: OrderedDict()}
        self._first = self._lines[max(self._lines)]
