"""Text that matches a regular expression, for schemas that ask for it. Pure.

Understood is what such patterns are written with: literals, classes, `\\d \\w \\s`, groups, alternatives, repetition,
anchors at the ends. Look-around, back references and the like are not; nobody is told that a text matches unless it
does (`regex` has the last word, since it can be stopped).
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
_PRINTABLE = string.ascii_letters + string.digits + " -_.,:;/@"


def matching(pattern: str, random: Random, shortest: int = 0, longest: int | None = None) -> str | None:
    """A text that `pattern` is found in, with that many characters; None where none was found."""
    if len(pattern) > MAX_PATTERN:
        return None
    most = MAX_TEXT if longest is None else min(longest, MAX_TEXT)
    for more in (MOST_MORE, 0, 12, 40, MAX_TEXT // 4):
        try:
            said = _Reader(pattern, random, more).all()
        except (_NotUnderstood, RecursionError):
            return None
        if len(said) < shortest and not pattern.endswith("$"):
            said += "a" * (shortest - len(said))
        if shortest <= len(said) <= most and found(pattern, said):
            return said
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


class _Reader:
    """Reads a pattern once, saying something for each of its parts."""

    def __init__(self, pattern: str, random: Random, more: int) -> None:
        self._pattern = pattern
        self._random = random
        self._more = more
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
        found = [self._sequence()]
        while self._peek() == "|":
            self._next()
            found.append(self._sequence())
        return self._random.choice(found)

    def _sequence(self) -> str:
        said: list[str] = []
        while self._peek() and self._peek() not in "|)":
            begin = self._at
            once = [self._atom()]
            times, after = self._times(), self._at
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
        return self._random.randint(low, most)

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
            return self._random.choice(self._escape())
        if sign in "*+?":
            raise _NotUnderstood
        return sign

    def _group(self) -> str:
        if self._peek() == "?":
            self._next()
            kind = self._next()
            if kind == "P" and self._peek() == "<":
                while self._next() != ">":
                    pass
            elif kind != ":":
                raise _NotUnderstood
        said = self._alternatives()
        if self._next() != ")":
            raise _NotUnderstood
        return said

    def _escape(self) -> str:
        sign = self._next()
        if sign in _CLASSES:
            return _CLASSES[sign]
        if sign in _ESCAPED:
            return _ESCAPED[sign]
        if sign.isalnum():  # \b, \A, \1, \p and so on
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
