"""What kind of answer a prompt asks for, and the prompt without the politeness around it."""

from __future__ import annotations

import regex  # type: ignore[import-untyped]

from app.cache.semantic.lexicon import FRAMES, QUESTIONS

_FRAME = regex.compile(
    r"^\s*(?:(?:hi|hello|hey|please)[,!]?\s+)?(?:" + "|".join(FRAMES) + r")\s*,?\s*", regex.IGNORECASE
)
_QUESTIONS = [(regex.compile(rf"\b(?:{pattern})\b", regex.IGNORECASE), name) for pattern, name in QUESTIONS]
_SENTENCE = regex.compile(r"(?<=[.?!])\s+|[,;:\n]\s*")
_COMMANDS = frozenset(
    """write explain summarize summarise improve correct list give show find make create compare translate convert tell
    describe fix add remove delete help suggest recommend generate compose draft rewrite reply answer review check build
    plan design calculate compute solve count sort set change edit let remind split round double merge move copy use
    run open close buy sell book order send define name pick choose rate rank identify classify extract parse format
    return proofread shorten expand paraphrase criticize evaluate analyze analyse discuss continue complete do don't
    never always please consider assume imagine pretend act be keep stop start avoid ensure prove show""".split()
)
_SELF = frozenset("i i'm i'd i've i'll me my mine we our us".split())
_VERB = regex.compile(
    r"\b(?:is|are|was|were|can|could|may|might|will|should|must|has|have|had|does|do|did|\w{3,}(?:s|ed))\b",
    regex.IGNORECASE,
)


def unframed(text: str) -> str:
    """Without `could you please tell me` and the like."""
    bare = _FRAME.sub("", text, count=1)
    return bare or text


def question_of(text: str) -> str:
    """`how`, `why`, `who`, `how many`, ...: of the first clause that begins with such a word; `` where none does."""
    for clause in _SENTENCE.split(text):
        for pattern, name in _QUESTIONS:
            found = pattern.match(clause.strip())
            if found:
                return name or " ".join(found.group(0).lower().split())
    return ""


def is_statement(text: str) -> bool:
    """Whether a text only says something: no question, no command, and nothing of whoever writes."""
    if "?" in text or not text.rstrip().endswith((".", ".)", '."')) or not _VERB.search(text):
        return False
    words = regex.findall(r"[\w']+", text.lower())
    if len(words) < 6 or _SELF & set(words):
        return False
    openings = [regex.match(r"\W*([\w']+)", sentence) for sentence in regex.split(r"(?<=[.!:;])\s+|\n+", text)]
    return not any(opening and opening.group(1).lower() in _COMMANDS for opening in openings)
