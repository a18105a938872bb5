"""How many tokens a text has, counted with a real vocabulary: OpenAI's `cl100k_base` and `o200k_base`, offline.

The package that has them (`bpe-openai`) is an optional extra, imported when a model asks for it. It counts four million
tokens a second, so of a long text a beginning and an end are counted and the rest is taken to be like them: an estimate
must not hold everybody up for what it is worth.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from app.config.models import Config

Counter = Callable[[str], int]

COUNTED_CHARACTERS = 32 * 1024
"""Some 2 ms. Of longer texts half of it at each end."""


def counters(config: Config) -> Mapping[str, Counter]:
    """By model, for those that name a vocabulary.

    Raises: ModuleNotFoundError.
    """
    by_name = {model.vocabulary for model in config.models.values() if model.vocabulary is not None}
    made = {name: counter(name) for name in by_name}
    return {name: made[model.vocabulary] for name, model in config.models.items() if model.vocabulary is not None}


def counter(vocabulary: str) -> Counter:
    """Counts the tokens of a text, at least one; text that looks like a special token is text.

    Raises: ModuleNotFoundError.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it opens its own files, when it is imported
        package: Any = import_module("bpe_openai")
        encode: Callable[[str], list[int]] = package.get_encoding(vocabulary).encode_ordinary

    def tokens(text: str) -> int:
        if len(text) <= COUNTED_CHARACTERS:
            return max(1, len(encode(text)))
        half = COUNTED_CHARACTERS // 2
        return round(len(encode(text[:half]) + encode(text[-half:])) * len(text) / COUNTED_CHARACTERS)

    return tokens
