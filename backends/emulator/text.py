"""Emulated text: one word is one token, and the words follow from (model, prompt, seed, choice) alone.

The rule is reversible: a token is a word with the white space before it, so `"".join(tokens(text)) == text` for any
text that does not end in white space, and a text has as many tokens as `text.split()` has words. A prompt without a
word still counts as one token. Word `i` of an answer is drawn by SplitMix64 from the answer's key and `i` (Steele,
Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014), so any word can be had without those before it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from math import exp
from statistics import NormalDist
from typing import NamedTuple, Protocol

from backends.types import Capability, FinishReason, GenerationRequest, ToolCallPart

WORDS = (
    "a all along also and are around as at be before between both bring build by calm can carry change clear close "
    "come common could cross day deep down each early east even every far few field find first follow for form found "
    "from gate give go good grow hand have high hold home how if in into is it join keep kind know land large last "
    "late lead learn leave left less let level light like line little long look made make many mark may mean meet "
    "more most move much must name near need new next night no north not note now of often old on once one open or "
    "order other our out over own part pass path place plain plan play point press quick quiet rail rain reach read "
    "real rest right rise river road round run same see send set shall short should show side sign small so some "
    "soon south stand start station stay step still stone such sure switch table take tell than that the their them "
    "then there these they thing this those time to too track train travel tree true turn two under until up use "
    "very wait walk warm was water way we well west what when where which while who whole will wind with word work "
    "world would year yet you young"
).split()

STRUCTURED: frozenset[Capability] = frozenset({"tools", "json_schema"})
"""Needs of a request whose answer is more than words."""

MEDIAN_TOKENS = 180
SIGMA = 0.7
SHORTEST, LONGEST = 16, 800
WINDOW_TOKENS = 1024
"""Words drawn at a time: about a millisecond."""
WINDOW_BLOCKS = 512
"""Blocks named at a time: about a millisecond."""

_MASK = (1 << 64) - 1
_PIECE = re.compile(r"\s*\S+")
_NORMAL = NormalDist()


class Answer(NamedTuple):
    """What will be said: how many tokens the engine generates, why it ends, and, where a stop sequence cuts the
    text, what each token still shows. `pieces` None means words drawn one by one from `key`; with `tool` they are the
    arguments of a call."""

    key: int
    tokens: int
    reason: FinishReason
    pieces: tuple[str, ...] | None = None
    tool: ToolCallPart | None = None
    stop: str | None = None


class Structured(Protocol):
    """What a request wants beside words (`structured.py`)."""

    def answer(self, request: GenerationRequest, prompt: str, choice: int, limit: int) -> Answer:
        """Raises: RequestRefused."""
        ...


def tokens(text: str) -> list[str]:
    """The tokens of a text, each with the white space before it."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """How many tokens a prompt has; at least one."""
    return max(1, len(text.split()))


def block_names(model: str, prompt: str, block_tokens: int) -> Iterator[int]:
    """A number for each whole block of a prompt's tokens that stands for the model, the block and all before it.

    The white space between words does not count.
    """
    words = prompt.split()
    name = blake2b(model.encode(), digest_size=8).digest()
    for start in range(0, len(words) - block_tokens + 1, block_tokens):
        block = " ".join(words[start : start + block_tokens]).encode("utf-8", "surrogatepass")
        name = blake2b(block, digest_size=8, key=name).digest()
        yield int.from_bytes(name, "big")


def word(key: int, position: int) -> str:
    """Token `position` of the answer of that key, with the space before it."""
    drawn = WORDS[splitmix(key + position) % len(WORDS)]
    return drawn.capitalize() if position == 0 else " " + drawn


def words(key: int, start: int, end: int) -> str:
    """Tokens `start` to `end` (exclusive) of an answer."""
    return "".join([word(key, position) for position in range(start, end)])


def answer(request: GenerationRequest, prompt: str, choice: int, limit: int) -> Answer:
    """The answer to one choice; `limit` is the most tokens it may have (max_tokens or what the context leaves).

    As vLLM does: `ignore_eos` goes on to the limit, `min_tokens` keeps it from ending earlier. Stop sequences are not
    looked for here but by `cut`.
    """
    key = key_of(request.model, prompt, request.seed, choice)
    natural = limit if request.ignore_eos else max(_natural_length(key), request.min_tokens)
    length = min(natural, limit)
    reason: FinishReason = "length" if length == limit and (request.ignore_eos or natural > limit) else "stop"
    return Answer(key, length, reason)


def cut(whole: Answer, stops: Sequence[str], min_tokens: int) -> Iterator[Answer | None]:
    """The answer as far as the token that completes the first stop sequence, cut before it; `whole` without one.

    Searches `WINDOW_TOKENS` at a time and yields None after each: a long answer takes a while. Tokens within the match
    stay in the answer, empty: they were generated. A match must end in token `min_tokens` or later.
    """
    said, starts = "", [0]
    for begin in range(0, whole.tokens, WINDOW_TOKENS):
        searched = len(said)
        drawn = [word(whole.key, at) for at in range(begin, min(begin + WINDOW_TOKENS, whole.tokens))]
        for token in drawn:
            starts.append(starts[-1] + len(token))
        said += "".join(drawn)
        if len(starts) > min_tokens:
            earliest_end = max(searched, starts[max(0, min_tokens - 1)]) + 1
            found = [
                (bisect_right(starts, at + len(stop) - 1), at, stop)
                for stop in stops
                if (at := said.find(stop, max(0, earliest_end - len(stop)))) >= 0
            ]
            if found:
                tokens_made, at, stop = min(found)
                kept = said[:at]
                pieces = tuple(kept[start:end] for start, end in pairwise(starts[: tokens_made + 1]))
                yield Answer(whole.key, tokens_made, "stop", pieces, None, stop)
                return
        yield None
    yield whole


def slice_of(answer: Answer, start: int, end: int) -> str:
    """The text of tokens `start` to `end` of an answer, a stop sequence and what follows it left out."""
    return words(answer.key, start, end) if answer.pieces is None else "".join(answer.pieces[start:end])


def key_of(model: str, prompt: str, seed: int, choice: int) -> int:
    """What an answer is drawn from: the same for the same request."""
    digest = blake2b(digest_size=8)
    digest.update(f"{model}\0{seed}\0{choice}\0".encode())
    digest.update(prompt.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big")


def splitmix(value: int) -> int:
    """64 bits that look drawn, the same for the same `value`."""
    value = (value * 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _natural_length(key: int) -> int:
    uniform = (splitmix(key ^ 0x5DEECE66D) + 0.5) / 2**64
    return round(min(LONGEST, max(SHORTEST, MEDIAN_TOKENS * exp(SIGMA * _NORMAL.inv_cdf(uniform)))))
