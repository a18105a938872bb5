"""Other names for models: one, or a weighted split between several that a session stays on its side of. Pure.

A key (a session, a user, a seed, else the request's id) is hashed with the alias's name to a point of [0, 1), on which
the shares lie end to end in the order they are given: taking a little from one neighbour for the other moves only the
sessions of that little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

from app.call import Call
from app.config.models import AliasTarget, ModelConfig

POINTS = 2**64


class Alias(NamedTuple):
    """`shares` add up to 1; `bounds` are where each ends, in points; `salt` is 16 bytes of its name's own."""

    name: str
    shares: tuple[tuple[str, float], ...]
    bounds: tuple[int, ...]
    salt: bytes

    def model(self, key: str) -> str:
        """Whose side a key is on."""
        shares = self.shares
        if len(shares) == 1:
            return shares[0][0]
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=self.salt).digest()
        point = int.from_bytes(digest, "big")
        return next(model for (model, _), end in zip(shares, self.bounds, strict=True) if point < end)


def table(models: Mapping[str, ModelConfig], aliases: Mapping[str, AliasTarget]) -> dict[str, Alias]:
    """Every alias by its name: those of the models first."""
    named = {alias: name for name, model in models.items() for alias in model.aliases}
    return {name: _alias(name, target) for name, target in {**named, **aliases}.items()}


def sticky_key(call: Call) -> str:
    """What a split keeps together: a session, else a user, else equal seeds, else nothing but the request itself."""
    if call.options.session is not None:
        return call.options.session
    if call.user:
        return call.user
    return call.request_id if call.seed is None else str(call.seed)


def _alias(name: str, target: AliasTarget) -> Alias:
    if isinstance(target, str):
        return Alias(name, ((target, 1.0),), (POINTS,), b"")
    weights = {model: weight for model, weight in target.items() if weight > 0}
    total = sum(weights.values())
    shares = tuple((model, weight / total) for model, weight in weights.items())
    return Alias(name, shares, tuple(_bounds(share for _, share in shares)), _salt(name))


def _bounds(shares: Iterator[float]) -> Iterator[int]:
    ends = list(accumulate(shares))
    yield from (int(end * POINTS) for end in ends[:-1])
    yield POINTS  # whatever the rounding


def _salt(name: str) -> bytes:
    """At most the 16 bytes that blake2b takes."""
    return blake2b(name.encode(), digest_size=16).digest()
