"""Text that matches a regular expression, for schemas that ask for it. Pure.

Understood is what such patterns are written with: literals, classes, `\\d \\w \\s`, groups, alternatives, repetition,
anchors. Look-around is passed over, back references and the like are not understood; nobody is told that a text
matches unless it does (`regex` has the last word, since it can be stopped).
"""

from __future__ import annotations

import re
import string
from importlib import import_module
from random import Random
from typing import Any

MAX_PATTERN = 256
MAX_TEXT = 1024
LONGEST_SEARCH_S = 0.05
MAX_STEPS = 4 * MAX_TEXT
"""Parts said for one text: nested counts multiply."""

MOST_MORE = 3
"""Of an unbounded repetition, so many more than must be."""

_CLASSES = {
    "d": string.digits,
    "w": string.ascii_lowercase + string.digits + "_",
    "s": " ",
    "D": string.ascii_lowercase,
    "W": "-",
    "S": string.ascii_lowercase,
}
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_PLACES = "bBAZ"
"""Escapes that stand for a place, not for a character."""

_PRINTABLE = string.ascii_letters + string.digits + " -_.,:;/@"


def matching(pattern: str, random: Random, shortest: int = 0, longest: int | None = None) -> str | None:
    """A text that `pattern` is found in, with that many characters; None where none was found."""
    if len(pattern) > MAX_PATTERN:
        return None
    most = MAX_TEXT if longest is None else min(longest, MAX_TEXT)
    for more in (MOST_MORE, 0, 12, 40, MAX_TEXT // 4):
        try:
            said = _Reader(pattern, random, more).all()
        except _TooLong:
            if not more:
                return None
            continue
        except (_NotUnderstood, RecursionError):
            return None
        if len(said) < shortest and not pattern.endswith("$"):
            said += "a" * (shortest - len(said))
        if shortest <= len(said) <= most and found(pattern, said):
            return said
    return _fitted(pattern, random, shortest, most) if shortest else None


def _fitted(pattern: str, random: Random, shortest: int, most: int) -> str | None:
    """A text of a length that is met by chance too seldom, as 16 digits of `^[0-9]+$`: how often more than must be its
    repetitions come in all is found by bisection."""
    for _ in range(4):  # alternatives are drawn
        low, high = 0, min(most, 2 * shortest)
        while low <= high:
            spare = (low + high) // 2
            try:
                said = _Reader(pattern, random, 0, spare).all()
            except _TooLong:
                high = spare - 1
                continue
            if len(said) < shortest:
                low = spare + 1
            elif len(said) > most:
                high = spare - 1
            elif found(pattern, said):
                return said
            else:
                break
    return None


def found(pattern: str, text: str) -> bool:
    """Whether the pattern is in the text; False too where it is none, or takes too long to say: patterns come from
    clients, and some take for ever."""
    regex: Any = import_module("regex")
    try:
        return regex.search(pattern, text, timeout=LONGEST_SEARCH_S) is not None
    except (regex.error, TimeoutError, OverflowError, RecursionError):
        return False


class _NotUnderstood(Exception):
    pass


class _TooLong(Exception):
    pass


class _Reader:
    """Reads a pattern once, saying something for each of its parts.

    Each repetition comes up to `more` times more than it must; or, where `spare` is given, the first ones that may take
    it all between them.
    """

    def __init__(self, pattern: str, random: Random, more: int, spare: int | None = None) -> None:
        self._pattern = pattern
        self._random = random
        self._more = more
        self._spare = spare
        self._steps = 0
        self._at = 0

    def all(self) -> str:
        said = self._alternatives()
        if self._at < len(self._pattern):
            raise _NotUnderstood
        return said

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        taken = self._peek()
        if not taken:
            raise _NotUnderstood
        self._at += 1
        return taken

    def _alternatives(self) -> str:
        spare = self._spare
        found = [(self._sequence(), self._spare)]
        while self._peek() == "|":
            self._next()
            self._spare = spare
            found.append((self._sequence(), self._spare))
        said, self._spare = self._random.choice(found)
        return said

    def _sequence(self) -> str:
        said: list[str] = []
        while self._peek() and self._peek() not in "|)":
            begin, spare = self._at, self._spare
            once = [self._atom()]
            times, after = self._times(), self._at
            if not times:
                self._spare = spare
            for _ in range(times - 1):
                self._at = begin
                once.append(self._atom())
            self._at = after
            said += once if times else ()
        return "".join(said)

    def _times(self) -> int:
        low, high = self._bounds()
        if self._peek() in ("?", "+") and (low, high) != (1, 1):
            self._next()  # lazy or possessive: the same texts
        most = low + self._more if high is None else min(high, low + self._more)
        if not low <= most <= MAX_TEXT:
            raise _NotUnderstood
        if self._spare is None:
            return self._random.randint(low, most)
        more = self._spare if high is None else min(self._spare, high - low)
        self._spare -= more
        return low + more

    def _bounds(self) -> tuple[int, int | None]:
        sign = self._peek()
        if sign and sign in "*+?":
            self._next()
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        counted = re.compile(r"\{(\d*)(,?)(\d*)\}").match(self._pattern, self._at)
        if counted is None or counted.group() in ("{}", "{,}"):
            return 1, 1
        self._at = counted.end()
        low = int(counted[1] or 0)
        return low, low if not counted[2] else int(counted[3]) if counted[3] else None

    def _atom(self) -> str:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise _TooLong
        sign = self._next()
        if sign in "^$":
            return ""
        if sign == ".":
            return self._random.choice(string.ascii_lowercase)
        if sign == "[":
            return self._random.choice(self._members())
        if sign == "(":
            return self._group()
        if sign == "\\":
            if self._peek() and self._peek() in _PLACES:
                self._next()
                return ""
            return self._random.choice(self._escape())
        if sign in "*+?":
            raise _NotUnderstood
        return sign

    def _group(self) -> str:
        kind = ":"
        if self._peek() == "?":
            self._next()
            kind = self._next()
            if kind == "<" and self._peek() and self._peek() in "=!":
                kind = self._next()
            if kind == "P" and self._peek() == "<":
                while self._next() != ">":
                    pass
            elif kind not in ":=!":
                raise _NotUnderstood
        spare = self._spare
        said = self._alternatives()
        if self._next() != ")":
            raise _NotUnderstood
        if kind in "=!":
            self._spare = spare
            return ""
        return said

    def _escape(self) -> str:
        sign = self._next()
        if sign in _CLASSES:
            return _CLASSES[sign]
        if sign in _ESCAPED:
            return _ESCAPED[sign]
        if (digits := {"x": 2, "u": 4}.get(sign)) is not None:
            code = self._pattern[self._at : self._at + digits]
            if len(code) < digits or not set(code) <= set(string.hexdigits):
                raise _NotUnderstood
            self._at += digits
            return chr(int(code, 16))
        if sign.isalnum():  # \1, \p and so on
            raise _NotUnderstood
        return sign

    def _members(self) -> str:
        negated = self._peek() == "^"
        if negated:
            self._next()
        members = ""
        first = True
        while first or self._peek() != "]":
            first = False
            members += self._range()
        self._next()
        if negated:
            members = "".join(sign for sign in _PRINTABLE if sign not in members)
        if not members:
            raise _NotUnderstood
        return members

    def _range(self) -> str:
        begin = self._next()
        if begin == "[":
            return begin
        if begin == "\\":
            begin = self._escape()
        ahead = self._pattern[self._at : self._at + 2]
        if len(begin) > 1 or len(ahead) < 2 or ahead[0] != "-" or ahead[1] == "]":
            return begin
        self._next()
        end = self._next()
        if end == "\\":
            end = self._escape()
        if len(end) > 1 or not 0 <= ord(end) - ord(begin) < 1000:
            raise _NotUnderstood
        return "".join(map(chr, range(ord(begin), ord(end) + 1)))
