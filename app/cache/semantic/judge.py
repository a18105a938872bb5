"""Whether a cached answer would have done in the place of the one that was generated: how a pair is verified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import regex  # type: ignore[import-untyped]

from app.cache.semantic.embedding import MAX_TOKENS, Embedder

_PUNCTUATION = regex.compile(r"(?:(?![-+\u2212]\d|(?<=\d)[.,:/](?=\d)|%)[\p{P}\s])+")
"""But for what makes another number of a number: a sign, a point within it, a per cent sign behind it."""


class Judge(Protocol):
    """Compares the two answers to a pair of prompts. A model as judge is a callable of this shape."""

    def __call__(self, cached: str, generated: str) -> bool:
        """Whether the cached answer would have done."""
        ...


def exact(cached: str, generated: str) -> bool:
    """The same text."""
    return cached == generated


def normalised(cached: str, generated: str) -> bool:
    """The same but for white space, case and punctuation. Two answers of punctuation alone must be the same text."""
    one, other = (_PUNCTUATION.sub(" ", text).strip().casefold() for text in (cached, generated))
    return one == other if one and other else cached == generated


def similarity(embedder: Embedder, threshold: float) -> Callable[[str, str], bool]:
    """A judge that asks for answers near each other; of ones too long to embed it accepts only the same text."""

    def near(cached: str, generated: str) -> bool:
        if normalised(cached, generated):
            return True
        if any(embedder.tokens(text) > MAX_TOKENS for text in (cached, generated)):
            return False
        one, other = embedder.embed([cached, generated])
        return float(one @ other) >= threshold

    return near
