"""Whether two prompts may mean the same: what an embedding does not see, told from their words alone.

A guard names a difference that changes the answer: a number, a unit, a day, a negation, an opposite, a name, code, the
language, who does what to whom, what is asked, how much is meant, when. What no guard knows must be the same words, or
words of a group (`synonyms`). Refusing wrongly costs a hit; agreeing wrongly would answer another question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import regex  # type: ignore[import-untyped]

from app.cache.semantic import lexicon
from app.cache.semantic.questions import is_statement, question_of, unframed
from app.cache.semantic.words import CODE, GENERAL_WORDS, LIGHT_WORDS, PURE_PAST, SPAN, Token, tokens

OPERATORS = frozenset("+*/^=<>!&|~-")
STOPS = frozenset(",.;:?!\n")
JOINING = frozenset(("and", "or", "vs", ",", "versus"))


class Placed(NamedTuple):
    """A word that may play a part, and the marker it stands under."""

    word: str
    marker: str


class Features(NamedTuple):
    """What the guards compare of one prompt."""

    numbers: tuple[str, ...]
    units: frozenset[str]
    times: frozenset[str]
    negations: int
    quantifiers: frozenset[str]
    question: str
    statement: bool
    words: frozenset[str]
    written: frozenset[str]
    pieces: frozenset[str]
    names: frozenset[str]
    spans: frozenset[str]
    text: str
    operators: tuple[str, ...]
    language: str
    parts: tuple[Placed, ...]
    joined: frozenset[tuple[str, str]]
    persons: tuple[int, ...]
    past: bool
    present: bool
    future: bool


def features(text: str) -> Features:
    """Everything the guards need of a prompt, computed once."""
    bare = unframed(text)
    found = tokens(SPAN.sub(lambda match: " " + match.group(0)[1:-1] + " ", bare))
    numbers, rest = _numbers(found)
    units = [lexicon.UNITS[each.lower] for each in rest if _is_unit(each)]
    written = frozenset(each.lower for each in found)
    statement = is_statement(text)
    present = bool(written & {"is", "are", "am", "do", "does", "has", "have"})
    past = bool(written & (lexicon.PAST | PURE_PAST))
    return Features(
        numbers=tuple(sorted(numbers)),
        units=frozenset(units),
        times=frozenset(lexicon.TIMES[each.lower] for each in rest if each.lower in lexicon.TIMES),
        negations=_negations(rest),
        quantifiers=frozenset(lexicon.QUANTIFIERS[each.lower] for each in rest if each.lower in lexicon.QUANTIFIERS),
        question="" if statement else question_of(bare),
        statement=statement,
        words=frozenset(each.canonical for each in rest if _is_content(each)),
        written=written,
        pieces=frozenset(regex.findall(r"\p{L}[\p{L}\d]*", bare.lower())),
        names=_names(bare),
        spans=_spans(bare),
        text=" ".join(bare.lower().split()),
        operators=tuple(sorted(each.lower for each in rest if each.lower[0] in OPERATORS)),
        language=_language(written, text),
        parts=_parts(found),
        joined=_joined(found),
        persons=_persons(rest),
        past=past
        or (
            not present and not statement and any(word.endswith("ed") and not word.endswith("eed") for word in written)
        ),
        present=present and not past,
        future=bool(written & lexicon.FUTURE) or "going to" in text.lower() or "'ll " in text.lower(),
    )


def _is_unit(token: Token) -> bool:
    return token.lower in lexicon.UNITS


def _is_content(token: Token) -> bool:
    word = token.lower
    return (
        word[0].isalnum()
        and not any(word in table for table in (lexicon.STOP_WORDS, lexicon.UNITS, lexicon.TIMES, lexicon.QUANTIFIERS))
        and word not in lexicon.NEGATIONS
        and not word.endswith("n't")
        and word not in lexicon.MARKERS
        and token.canonical not in LIGHT_WORDS
    )


def _numbers(found: list[Token]) -> tuple[list[str], list[Token]]:
    """The numbers, written out or not, and the other words. A bare `one` is a pronoun as often as a number."""
    numbers: list[str] = []
    rest: list[Token] = []
    total: int | None = None
    for token in [*found, Token("", "", "")]:
        word = token.lower
        value = lexicon.NUMBER_WORDS.get(word, lexicon.SCALES.get(word))
        if value is not None and not (word == "one" and total is None):
            total = _joined_number(total, value, word in lexicon.SCALES)
            continue
        if total is not None:
            numbers.append(str(total))
            total = None
        number = _number(token, rest[-1].lower if rest else "")
        if number:
            numbers.append(number)
        elif word:
            rest.append(token)
    return numbers, rest


def _joined_number(total: int | None, value: int, scale: bool) -> int:
    if total is None:
        return value
    return total * value if scale else total + value


def _number(token: Token, before: str) -> str:
    word = token.lower
    if word[:1].isdigit():
        return word.replace(",", "") if regex.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", word) else word
    if word in lexicon.ORDINALS and not (word == "second" and before in ("a", "per", "each", "every", "")):
        value = lexicon.ORDINALS[word]
        return f"{value}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(value, 'th') }"
    if token.written.isupper() and word in lexicon.ROMAN:
        return str(lexicon.ROMAN[word])
    return lexicon.MULTIPLES.get(word, "")


def _negations(rest: list[Token]) -> int:
    # A leading "No," answers; it does not negate.
    counted = rest[1:] if rest and rest[0].lower == "no" else rest
    return sum(each.lower in lexicon.NEGATIONS or each.lower.endswith("n't") for each in counted)


def _names(text: str) -> frozenset[str]:
    """Capitalised words inside sentences, and words with capitals inside: names of somebody or something."""
    pattern = r"(?P<start>^\W*|[.?!:;\n]\W*|[\"“'`(]\s*)?\b(?P<word>\p{L}[\p{L}\d]*)"
    found = [(each["start"] is not None, each["word"]) for each in regex.finditer(pattern, text)]
    capital = [word for _, word in found if word[0].isupper() and len(word) > 1]
    if len(capital) * 2 > len(found) and len(found) > 3:
        return frozenset()  # a title: every word is capitalised, and the words are compared anyway
    named = [
        word.lower()
        for start, word in found
        if (word[0].isupper() and not start and len(word) > 1) or any(letter.isupper() for letter in word[1:])
    ]
    return frozenset(named) - lexicon.STOP_WORDS - frozenset(lexicon.TIMES)


def _spans(text: str) -> frozenset[str]:
    """What is quoted or looks like code, without its marks."""
    quoted = ["".join(match) for match in SPAN.findall(text)]
    code = CODE.findall(text)
    return frozenset(" ".join(each.lower().strip("().,;:?!").split()) for each in [*quoted, *code]) - {""}


def _language(written: frozenset[str], text: str) -> str:
    scripts = {
        name
        for name, pattern in (("cyrillic", r"\p{Cyrillic}"), ("han", r"[\p{Han}\p{Hiragana}\p{Katakana}]"),
                              ("hangul", r"\p{Hangul}"), ("arabic", r"\p{Arabic}"), ("greek", r"\p{Greek}{3}"),
                              ("hebrew", r"\p{Hebrew}"), ("devanagari", r"\p{Devanagari}"), ("thai", r"\p{Thai}"))
        if regex.search(pattern, text)
    }  # fmt: skip
    votes = {name: len(written & words) for name, words in lexicon.LANGUAGES.items()}
    best = max(votes, key=lambda name: (votes[name], name == "en"))
    latin = best if votes[best] >= 2 else "en"
    return " ".join([*sorted(scripts), latin])


def _parts(found: list[Token]) -> tuple[Placed, ...]:
    parts: list[Placed] = []
    marker = before = ""
    for token in found:
        word = token.lower
        if word in STOPS:
            marker = ""
        elif word.endswith("n't"):
            marker = "not"
        elif (
            word in lexicon.MARKERS
            and not (word == "of" and before == "instead")
            and not (word == "to" and before == "how")
        ):
            marker = lexicon.MARKERS[word]
        elif _is_content(token) or word in lexicon.UNITS or word in lexicon.TIMES or word[:1].isdigit():
            parts.append(Placed(lexicon.UNITS.get(word, token.canonical), marker))
        before = word
    return tuple(parts)


def _joined(found: list[Token]) -> frozenset[tuple[str, str]]:
    """Pairs around `and`, `or` or a comma: their order says nothing."""
    said = [each for each in found if each.lower not in ("a", "an", "the", "my", "your")]
    pairs = zip(said, said[1:], said[2:], strict=False)
    both = [(one.canonical, two.canonical) for one, middle, two in pairs if middle.lower in JOINING]
    return frozenset(both + [(two, one) for one, two in both])


def _persons(rest: list[Token]) -> tuple[int, ...]:
    """Who is spoken of, in order: 1 I, 2 you, each once; and whose (11, 12, ...)."""
    persons: dict[int, None] = {}
    for each in rest:
        if each.lower in lexicon.POSSESSIVES:
            persons[10 + lexicon.POSSESSIVES[each.lower]] = None
        elif each.lower in lexicon.FIRST_PERSON:
            persons[1] = None
        elif each.lower in lexicon.SECOND_PERSON:
            persons[2] = None
    return tuple(persons)


def _opposites(a: Features, b: Features) -> bool:
    return any(
        (one in a.written and other in b.written and (one not in b.written or other not in a.written))
        or (one in b.written and other in a.written and (one not in a.written or other not in b.written))
        for one, other in lexicon.OPPOSITES
    )


def _names_differ(a: Features, b: Features) -> bool:
    return any(name not in b.written and name not in b.pieces for name in a.names) or any(
        name not in a.written and name not in a.pieces for name in b.names
    )


def _spans_differ(a: Features, b: Features) -> bool:
    return any(span not in b.text for span in a.spans) or any(span not in a.text for span in b.spans)


def _persons_differ(a: Features, b: Features) -> bool:
    whose_a, whose_b = ({who for who in each.persons if who > 10} for each in (a, b))
    who_a, who_b = ([who for who in each.persons if who < 10] for each in (a, b))
    return bool(whose_a and whose_b and whose_a != whose_b) or (len(who_a) == len(who_b) == 2 and who_a != who_b)


def _tense_differs(a: Features, b: Features) -> bool:
    return a.future != b.future or (a.past and b.present and not b.past) or (b.past and a.present and not a.past)


def _words_differ(a: Features, b: Features) -> bool:
    unshared = a.words ^ b.words
    if not (a.statement and b.statement):
        return bool(unshared)
    shared = len(a.words & b.words)
    return not unshared <= GENERAL_WORDS or max(len(a.words - b.words), len(b.words - a.words)) > shared


def _directions_differ(a: Features, b: Features) -> bool:
    """Whether a word of one plays the part of another in the other text."""
    first, second = _roles(a), _roles(b)
    shared = [word for word in first if word in second]
    moved = {(first[word], second[word]) for word in shared if first[word] != second[word]}
    if any((after, before) in moved for before, after in moved) or moved & {("to", "from"), ("from", "to")}:
        return True
    return _order_differs(a, b, first, second, moved)


def _roles(each: Features) -> dict[str, str]:
    roles: dict[str, str] = {}
    for part in each.parts:
        roles.setdefault(part.word, part.marker)
    return roles


def _order_differs(
    a: Features, b: Features, first: Mapping[str, str], second: Mapping[str, str], moved: set[tuple[str, str]]
) -> bool:
    for active, passive, way in ((first, second, ("", "by")), (second, first, ("by", ""))):
        if way in moved:
            agents = [word for word in active if active[word] == "" and passive.get(word) == "by"]
            others = [word for word in active if active[word] == "" and passive.get(word) == ""]
            places = {word: place for place, word in enumerate(active)}
            return any(all(places[other] < places[agent] for other in others) for agent in agents if others)
    kept = [word for word in first if second.get(word) == first[word]]
    places = {word: place for place, word in enumerate(second)}
    return any(
        first[one] == first[two] and places[one] > places[two] and (one, two) not in a.joined | b.joined
        for place, one in enumerate(kept)
        for two in kept[place + 1 :]
    )


GUARDS: Mapping[str, Callable[[Features, Features], bool]] = {
    "language": lambda a, b: a.language != b.language,
    "numbers": lambda a, b: a.numbers != b.numbers,
    "units": lambda a, b: a.units != b.units,
    "times": lambda a, b: a.times != b.times,
    "negation": lambda a, b: a.negations != b.negations,
    "opposites": _opposites,
    "code": lambda a, b: a.operators != b.operators or _spans_differ(a, b),
    "names": _names_differ,
    "question": lambda a, b: a.question != b.question,
    "quantifiers": lambda a, b: a.quantifiers != b.quantifiers,
    "persons": _persons_differ,
    "tense": _tense_differs,
    "words": _words_differ,
    "direction": _directions_differ,
}
"""In the order they are asked."""


def disagreement(a: Features, b: Features) -> str | None:
    """The first guard that says the two do not mean the same; None where none does. Symmetric."""
    return next((name for name, differ in GUARDS.items() if differ(a, b)), None)
