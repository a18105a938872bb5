"""Emulated embeddings: what texts have in common, their vectors have too. Pure.

A feature hash of words (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009): each distinct
word adds its weight to a few places of the vector, by SplitMix64 of its hash, with a sign; the vector has length 1. It
knows nothing of meaning: it is no model's embedding.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from hashlib import blake2b
from math import log1p, sqrt
from struct import pack

import msgspec

from backends.emulator.text import Answer, splitmix
from backends.errors import RequestRefused
from backends.types import GenerationRequest

DIMENSIONS = 256
"""Where a request does not say."""

MAX_DIMENSIONS = 4096
MAX_NUMBERS = 1_000_000
"""In one answer: some 10 MB of JSON."""

PLACES = 8


class _Body(msgspec.Struct):
    dimensions: int | None = None


_decode = msgspec.json.Decoder(_Body).decode


def answer(request: GenerationRequest, prompt: str) -> Answer:
    """One token that shows the prompt's vector.

    Raises: RequestRefused for more numbers than are emulated.
    """
    dimensions = dimensions_of(request.body)
    if dimensions * request.choices > MAX_NUMBERS:
        asked = f"{request.choices:,} vectors of {dimensions:,} numbers are more than is emulated"
        raise RequestRefused(f"'dimensions': {asked} ({MAX_NUMBERS:,} numbers)", "dimensions", "invalid_value")
    return Answer(0, 1, "stop", (encoded(vector(prompt, dimensions)),))


def dimensions_of(body: bytes) -> int:
    """How many numbers a request asks for; more than `MAX_DIMENSIONS` are cut to them."""
    wanted = _decode(body).dimensions if body else None
    return min(wanted or DIMENSIONS, MAX_DIMENSIONS)


def vector(text: str, dimensions: int) -> list[float]:
    """`dimensions` numbers, of which the squares add up to 1."""
    numbers = [0.0] * dimensions
    for word, times in Counter(text.lower().split() or [""]).items():
        key = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        weight = log1p(times)
        for place in range(PLACES):
            drawn = splitmix(key + place)
            numbers[(drawn >> 1) % dimensions] += weight if drawn & 1 else -weight
    length = sqrt(sum(number * number for number in numbers))
    if not length:  # words that cancel each other out
        return [1.0, *numbers[1:]]
    return [number / length for number in numbers]


def encoded(numbers: list[float]) -> str:
    """As the `text` of a chunk: base64 of little-endian 32-bit floats, as OpenAI's clients ask for it."""
    return b64encode(pack(f"<{len(numbers)}f", *numbers)).decode()
