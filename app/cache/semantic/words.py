"""A prompt as words: cut up, brought to their stems, and each put for the group that means the same."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import regex  # type: ignore[import-untyped]

from app.cache.semantic.synonyms import GENERAL, GROUPS, LIGHT

TOKEN = regex.compile(
    r"0x[0-9a-f]+|\d+(?:st|nd|rd|th)\b|\d+(?:[.,:]\d+)*|\p{L}[\p{L}\p{M}\d_]*(?:['’]\p{L}+)?(?:\.[\p{L}\d_]+)*"  # noqa: RUF001
    r"|[%°$€£¥₹]|[+*/^=<>!&|~-]+|[,.;:?!\n]",
    regex.IGNORECASE,
)
SPAN = regex.compile(r"`([^`]+)`|\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+)'(?!\w)")
CODE = regex.compile(
    r"https?://\S+|\S+@\S+\.\w+|(?<!\S)--?[A-Za-z][\w-]*|[~.]?(?:/[\w.-]+)+|\w+\(\)?|\w*[a-z]\w*(?:[._]\w+)+|\w+_\w+|[a-z]+[A-Z]\w*"
)

IRREGULAR = {
    form: base
    for base, forms in (
        (line.split()[0], line)
        for line in """write written wrote writing
        build built
        make made making
        find found
        get got gotten
        send sent
        show shown
        give given gave
        take taken took
        know known knew
        choose chosen chose
        run ran running
        win won
        eat ate eaten
        drink drank
        drive drove driven
        see saw seen
        speak spoke spoken
        begin began begun
        break broke broken
        buy bought
        sell sold
        teach taught
        learn learnt
        keep kept
        mean meant
        say said
        tell told
        think thought
        bring brought
        hold held
        lose lost
        pay paid
        leave leaves left
        wolf wolves
        person people persons
        child children
        man men
        woman women
        mouse mice
        foot feet
        tooth teeth
        virus viruses
        bacterium bacteria
        index indices indexes
        vertex vertices
        analysis analyses
        datum data""".splitlines()
    )
    for form in forms.split()
}
PURE_PAST = frozenset(
    """wrote took knew chose ran won ate drank drove saw spoke began broke gave went came became grew fell flew sang
    swam threw wore rose stole drew blew shook""".split()
)


class Token(NamedTuple):
    """A word as written, lower-cased, and its stem's group."""

    written: str
    lower: str
    canonical: str


def tokens(text: str) -> list[Token]:
    """The words, numbers and signs of a text, in order."""
    return [Token(found, *_forms(found)) for found in TOKEN.findall(text)]


@lru_cache(maxsize=8192)
def _forms(found: str) -> tuple[str, str]:
    lower = found.lower().replace("’", "'")  # noqa: RUF001
    lower = lower.removesuffix("'s")
    return lower, canonical(lower)


def canonical(word: str) -> str:
    """What stands for a word: the first of its group, or else its stem."""
    return _GROUPED.get(word) or _GROUPED.get(stem(word)) or stem(word)


def stem(word: str) -> str:
    """Without the endings of plural, past and -ing: the first steps of Porter's (1980), which keep the word's class."""
    if word in IRREGULAR:
        return _without_e(IRREGULAR[word])
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith(("sses", "ies")):
        word = word[:-2] if word.endswith("sses") else word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ed", "ing"):
        if word.endswith(ending) and _measure(word[: -len(ending)]) > 0 and not word.endswith("eed"):
            word = _mended(word[: -len(ending)])
            break
    return _without_e(word)


def _mended(word: str) -> str:
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if len(word) > 2 and word[-1] == word[-2] and word[-1] not in "lsz":
        return word[:-1]
    return word + "e" if _measure(word) == 1 and _closed(word) else word


def _without_e(word: str) -> str:
    base = word[:-1]
    if word.endswith("y") and len(word) > 3 and base[-1] not in "aeiou":
        return base + "i"
    if word.endswith("e") and (_measure(base) > 1 or (_measure(base) == 1 and not _closed(base))):
        return base
    return word


def _measure(word: str) -> int:
    """How many times a vowel is followed by a consonant."""
    shape = "".join(
        "v" if letter in "aeiou" or (letter == "y" and place > 0) else "c" for place, letter in enumerate(word)
    )
    return sum(pair == "vc" for pair in zip_pairs(shape))


def zip_pairs(shape: str) -> list[str]:
    """Each two neighbours of a string."""
    return [shape[place : place + 2] for place in range(len(shape) - 1)]


def _closed(word: str) -> bool:
    """Ends consonant, vowel, consonant (not w, x or y), as `hop` of `hoping` does."""
    vowels = "aeiou"
    return len(word) >= 3 and word[-1] not in vowels + "wxy" and word[-2] in vowels + "y" and word[-3] not in vowels


_GROUPED: dict[str, str] = {}
for _line in GROUPS.strip().splitlines():
    _words = _line.split()
    for _word in _words:
        # The first group that names a word has it: groups are not joined through a word of two senses.
        _GROUPED.setdefault(_word, "=" + _words[0])
        _GROUPED.setdefault(stem(_word), "=" + _words[0])

LIGHT_WORDS = frozenset(canonical(word) for word in LIGHT.split())
GENERAL_WORDS = frozenset(canonical(word) for word in GENERAL.split()) | frozenset(GENERAL.split())
