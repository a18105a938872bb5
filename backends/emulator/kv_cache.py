"""Paged KV memory: how many blocks are in use at any decode step, without looking at any lane.

A job's prompt blocks are taken when it is admitted and shared by its lanes; each lane's answer grows blocks of its own.
A lane that joined at decode count j has `(count - j) // block + 1` of them, so their sum over lanes follows from how
many lanes there are, the sum of `j // block`, and a ring that counts lanes by `j % block`.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.emulator.jobs import Job
from backends.emulator.prefix_cache import PrefixCache


class KvCache:
    """Blocks of KV. `held` are those that do not grow: prompts, and first blocks of answers not yet begun."""

    __slots__ = ("_laps", "_ring", "block", "held", "lanes", "prefix", "room")

    def __init__(self, room_tokens: int, block_tokens: int) -> None:
        self.block = block_tokens
        self.room = room_tokens // block_tokens
        self.held = 0
        self.lanes = 0
        self.prefix = PrefixCache()
        self._laps = 0
        self._ring = [0] * block_tokens

    def blocks(self, prompt_tokens: int, lengths: Sequence[int]) -> int:
        """What a prompt and its whole answers take."""
        block = self.block
        need = -(-prompt_tokens // block)
        for length in lengths:
            need -= -length // block
        return need

    def used(self, count: int) -> int:
        """Blocks in use at a decode count, if the same lanes are in the batch until then."""
        lap, place = divmod(count, self.block)
        return self.held + self.lanes * (lap + 1) - self._laps - sum(self._ring[place + 1 :])

    def full(self, count: int, more: int = 0) -> bool:
        """Whether the lanes, and so many blocks more, outgrow the room by that count."""
        # The sum over the ring can only lower this, so mostly it need not be made.
        room = self.room - more
        return self.held + self.lanes * (count // self.block + 1) - self._laps > room and self.used(count) > room

    def steps_that_fit(self, count: int, steps: int) -> int:
        """The most steps after `count`, up to `steps`, that the room allows; one is known to fit."""
        low, high = 1, steps + 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.used(count + middle) > self.room:
                high = middle
            else:
                low = middle
        return low

    def join(self, joined: int) -> None:
        """A lane enters the batch."""
        lap, place = divmod(joined, self.block)
        self.lanes += 1
        self._laps += lap
        self._ring[place] += 1

    def leave(self, joined: int) -> None:
        """A lane leaves the batch, and its blocks are free."""
        lap, place = divmod(joined, self.block)
        self.lanes -= 1
        self._laps -= lap
        self._ring[place] -= 1

    def may_admit(self, job: Job, count: int) -> bool:
        """Whether a job that finds nothing in the prefix cache could be admitted at that count."""
        return not self.full(count, self._lane_blocks(job) - (-job.prompt_tokens // self.block))

    def admit(self, job: Job, count: int) -> bool:
        """Give a job its prompt's blocks and the first of each answer, if there is room beside what the lanes will use
        at `count`. Sets `position` to how much of the prompt was found in the cache; a token is left to compute."""
        prompt_tokens, block = job.prompt_tokens, self.block
        need = self._lane_blocks(job) - (-prompt_tokens // block)
        hits = idle = 0
        if job.prefix is not None:
            limit = min(len(job.prefix), (prompt_tokens - 1) // block)
            hits, idle = self.prefix.match(job.prefix, limit)
        if self.full(count, need - hits + idle):
            return False
        if hits:
            assert job.prefix is not None
            _, job.run = self.prefix.hold(job.prefix, 0, hits, None)
            self.held += idle
        job.shared_blocks = hits
        job.position = hits * block
        job.blocks = need - hits
        self.held += job.blocks
        self.evict(count)
        return True

    def begin(self, job: Job) -> None:
        """The prompt is read: the answers' first blocks become their lanes' own (which must `join`), and the prompt's
        are cached."""
        lane_blocks = self._lane_blocks(job)
        self.held -= lane_blocks
        job.blocks -= lane_blocks
        if job.prefix is not None:
            fresh = min(len(job.prefix), job.prompt_tokens // self.block) - job.shared_blocks
            if fresh > 0:
                before = self.prefix.held_blocks
                job.run = self.prefix.add(job.prefix, job.shared_blocks, job.shared_blocks + fresh, job.run)
                job.shared_blocks += fresh
                # What another job has cached meanwhile is shared from now on, and this job's copy of it is dropped.
                job.blocks -= fresh
                self.held += self.prefix.held_blocks - before - fresh

    def release(self, job: Job) -> None:
        """Free a job's prompt blocks; what is cached of them stays until it is evicted."""
        self.held -= job.blocks
        job.blocks = job.shared_blocks = 0
        if job.run is not None:
            before = self.prefix.held_blocks
            self.prefix.release(job.run)
            self.held -= before - self.prefix.held_blocks
            job.run = None

    def evict(self, count: int) -> None:
        """Drop cached blocks whose place is needed at that count."""
        if (idle := self.prefix.idle_blocks) and self.full(count, idle):
            self.prefix.trim(self.room - self.used(count))

    def _lane_blocks(self, job: Job) -> int:
        """What the answers take with their next token: one block each at first, more after a preemption."""
        if not job.lanes:
            return job.width
        return sum(lane.produced // self.block + 1 for lane in job.lanes)
