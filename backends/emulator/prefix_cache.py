"""Which prompt blocks are still in memory: an LRU prefix cache with vLLM's behaviour at the cost of a radix tree.

A block is named by a hash that covers everything before it (a chain), so equal hashes mean equal prefixes. Blocks that
came together are kept as one `Run`: requests cost dictionary look-ups per run, not per block. A run is split where a
prompt leaves it. Whoever uses a block uses all before it; a run nobody uses is idle and may be evicted, the longest
idle first and from its end. Within one chain the deeper run always becomes idle first, so eviction meets leaves only.
"""

from __future__ import annotations

from collections import OrderedDict

from backends.emulator.chain import Chain


class Run:
    """Consecutive blocks of a chain that share their users; `holders` is how many jobs use it."""

    __slots__ = ("hashes", "holders", "parent")

    def __init__(self, hashes: Chain, parent: Run | None, holders: int) -> None:
        self.hashes = hashes
        self.parent = parent
        self.holders = holders


class PrefixCache:
    """Blocks by hash. `held_blocks` are in use, `idle_blocks` may be evicted."""

    __slots__ = ("_heads", "_idle", "held_blocks", "idle_blocks")

    def __init__(self) -> None:
        self.held_blocks = 0
        self.idle_blocks = 0
        self._heads: dict[int, Run] = {}
        self._idle: OrderedDict[Run, None] = OrderedDict()

    def match(self, hashes: Chain, limit: int) -> tuple[int, int]:
        """(how many of the first `limit` blocks are cached, how many of those are idle); changes nothing."""
        place = idle = 0
        while place < limit and (run := self._heads.get(hashes.at(place))) is not None:
            common = _common(run.hashes, hashes, place, limit)
            if not run.holders:
                idle += common
            place += common
            if common < len(run.hashes):
                break
        return place, idle

    def hold(self, hashes: Chain, start: int, limit: int, run: Run | None) -> tuple[int, Run | None]:
        """Use the cached blocks from `start` on, `run` being held up to there; (where they end, the last run)."""
        place = start
        while place < limit and (found := self._heads.get(hashes.at(place))) is not None:
            common = _common(found.hashes, hashes, place, limit)
            if common < len(found.hashes):
                run = self._hold(self._split(found, common))
                place += common
                break
            run = self._hold(found)
            place += common
        return place, run

    def add(self, hashes: Chain, start: int, limit: int, run: Run | None) -> Run | None:
        """Cache the blocks from `start` to `limit`, which have just been computed, and hold them; the last run. `run`
        is what the job holds up to `start`. Those that another job has cached meanwhile are held instead."""
        place, run = self.hold(hashes, start, limit, run)
        if place < limit:
            run = self._heads[hashes.at(place)] = Run(hashes.part(place, limit), run, 1)
            self.held_blocks += limit - place
        return run

    def release(self, run: Run | None) -> None:
        """Stop using a run and all before it."""
        while run is not None:
            run.holders -= 1
            if not run.holders:
                self._idle[run] = None
                self.idle_blocks += len(run.hashes)
                self.held_blocks -= len(run.hashes)
            run = run.parent

    def trim(self, room_blocks: int) -> None:
        """Evict until no more than so many blocks are idle."""
        while (excess := self.idle_blocks - room_blocks) > 0:
            run = next(iter(self._idle))
            if len(run.hashes) > excess:
                run.hashes = run.hashes.part(0, len(run.hashes) - excess)
                self.idle_blocks -= excess
                return
            self._idle.popitem(last=False)
            self.idle_blocks -= len(run.hashes)
            del self._heads[run.hashes.at(0)]

    def _hold(self, run: Run) -> Run:
        if not run.holders:
            del self._idle[run]
            self.idle_blocks -= len(run.hashes)
            self.held_blocks += len(run.hashes)
        run.holders += 1
        return run

    def _split(self, run: Run, blocks: int) -> Run:
        """Cut a run after so many blocks; the new first part is used by whoever used the whole. The rest stays the
        same object: its users and its children find the first part through `parent`, and its age is unchanged."""
        head = Run(run.hashes.part(0, blocks), run.parent, run.holders)
        run.hashes = run.hashes.part(blocks, len(run.hashes))
        run.parent = head
        self._heads[head.hashes.at(0)] = head
        self._heads[run.hashes.at(0)] = run
        if not head.holders:
            self._idle[head] = None
        return head


def _common(own: Chain, hashes: Chain, place: int, limit: int) -> int:
    """How many blocks of a run the chain from `place` shares. The first is known to be equal, and as each hash covers
    all before it, one equal hash says that those before are equal too: halving finds the last."""
    low, high = 1, min(len(own), limit - place)
    if own.at(high - 1) == hashes.at(place + high - 1):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if own.at(middle - 1) == hashes.at(place + middle - 1):
            low = middle
        else:
            high = middle
    return low
