"""Which prompts a backend has read of late, by chained block hashes: what its prefix cache probably still holds. Pure.

A block is remembered from dispatch on: for 5 s on trust, until the first token says that it was read, then for 120 s,
each use anew; beyond what the backend's KV holds the least recently used is forgotten. Hashes are chained (a block's
hash covers everything before it), so the leading blocks found are exactly the common prefix. How far such guesses come
true is learned from the cached tokens that backends report: `trust`.

Source: speculative insertion as in NVIDIA Dynamo's KV router; TTL and block sizes as in llm-d's approximate scorer.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

TTL_NS = 120_000_000_000
UNCONFIRMED_NS = 5_000_000_000
MOST_BLOCKS = 200_000
TRUST_RATE = 0.05
BLOCK_CHARACTERS = 1024
MOST_HASHED = 512


def block_hashes(key: str, text: str) -> tuple[int, ...]:
    """The chained hashes of a prompt's whole blocks of 1,024 characters (some 256 tokens); `key` keeps tenants and
    models apart. Four blocks take 4 us; beyond 512 blocks a prompt counts as its beginning."""
    whole = min(len(text) // BLOCK_CHARACTERS, MOST_HASHED)
    if not whole:
        return ()
    link, hashes = key.encode("utf-8", "surrogatepass"), []
    for start in range(0, whole * BLOCK_CHARACTERS, BLOCK_CHARACTERS):
        block = text[start : start + BLOCK_CHARACTERS].encode("utf-8", "surrogatepass")
        link = blake2b(link + block, digest_size=8).digest()
        hashes.append(int.from_bytes(link, "big"))
    return tuple(hashes)


class PrefixTable:
    """Blocks of one backend, least recently used first, with the time until which each is believed."""

    __slots__ = ("_asked", "_now_ns", "_share", "trust", "until_ns")

    def __init__(self) -> None:
        self.until_ns: dict[int, int] = {}
        self.trust = 1.0
        self._asked: Sequence[int] = ()
        self._now_ns = 0
        self._share = 0.0

    def __len__(self) -> int:
        return len(self.until_ns)

    def share(self, blocks: Sequence[int], now_ns: int) -> float:
        """Which share of a prompt's blocks is believed to be cached, 0..1, `trust` applied."""
        if blocks is self._asked and now_ns == self._now_ns:  # a decision asks for the cost, then for the time
            return self._share
        self._asked, self._now_ns = blocks, now_ns
        self._share = self._found(blocks, now_ns)
        return self._share

    def _found(self, blocks: Sequence[int], now_ns: int) -> float:
        known = self.until_ns
        if known.get(blocks[0], 0) <= now_ns:
            return 0.0
        low, high = 1, len(blocks)  # a leading block is used whenever a later one is, so it never leaves sooner
        while low < high:
            middle = (low + high + 1) // 2
            if known.get(blocks[middle - 1], 0) > now_ns:
                low = middle
            else:
                high = middle - 1
        return self.trust * low / len(blocks)

    def dispatched(self, blocks: Sequence[int], most: int, now_ns: int) -> None:
        """A prompt is on its way; at most `most` blocks are remembered."""
        self._asked = ()
        known, until_ns = self.until_ns, now_ns + UNCONFIRMED_NS
        for block in reversed(blocks):  # the first one last, so that it is forgotten last
            known[block] = max(known.pop(block, 0), until_ns)
        excess = len(known) - min(most, MOST_BLOCKS)
        if excess > 0:
            for block in [block for _, block in zip(range(excess), known, strict=False)]:
                del known[block]

    def read(self, blocks: Sequence[int], now_ns: int) -> None:
        """It has been read: its blocks are there."""
        self._asked = ()
        known, until_ns = self.until_ns, now_ns + TTL_NS
        for block in blocks:
            if block in known:
                known[block] = until_ns

    def learn(self, expected_tokens: float, found_tokens: float) -> None:
        """What was found in the cache, of what was expected (before trust)."""
        if expected_tokens > 0:
            seen = min(1.0, found_tokens / expected_tokens)
            self.trust += TRUST_RATE * (seen - self.trust)
