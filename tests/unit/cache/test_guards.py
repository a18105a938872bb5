"""What the guards refuse and what they let pass, on our own labelled pairs and on any text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cache.semantic.guards import disagreement, features

DATA = Path(__file__).resolve().parents[2] / "data"
WORDS = (
    "What is the 3 three not Paris paris from to by java 5kg `x` \"a b\" don't it's best , . ? - = € 二 ñandú".split()
)
texts = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))


def labelled(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / f"semcache_{name}.jsonl").read_text().splitlines()]


def between(a: str, b: str) -> str | None:
    return disagreement(features(a), features(b))


@pytest.mark.parametrize(
    ("guard", "a", "b"),
    [
        ("numbers", "Explain the 2nd law", "Explain the third law"),
        ("units", "Convert 5 kg to pounds", "Convert 5 g to pounds"),
        ("times", "Is the shop open on Monday?", "Is the shop open on Sunday?"),
        ("negation", "Foods that are safe for dogs", "Foods that are not safe for dogs"),
        ("opposites", "How do I enable the alarm?", "How do I disable the alarm?"),
        ("opposites", "Turn on the light", "Turn off the light"),
        ("code", "What does `ls -l` print?", "What does `ls -a` print?"),
        ("names", "What is the capital of France?", "What is the capital of Germany?"),
        ("words", "what is the capital of france", "what is the capital of germany"),
        ("words", "how do i sort in java", "how do i sort in javascript"),
        ("question", "How do vaccines work?", "Why do vaccines work?"),
        ("quantifiers", "List all rivers here", "List rivers here"),
        ("persons", "What do I think of you?", "What do you think of me?"),
        ("tense", "Who will lead the party?", "Who leads the party?"),
        ("language", "Wie ist das Wetter in der Stadt?", "What is the weather in the city?"),
        ("direction", "Convert celsius rates from euros into yen", "Convert celsius rates from yen into euros"),
        ("direction", "Why did Brutus kill Caesar?", "Why did Caesar kill Brutus?"),
        ("direction", "A dog chases the cat", "A dog chased by the cat"),
    ],
)
def test_each_guard_refuses_what_it_is_for(guard: str, a: str, b: str) -> None:
    assert between(a, b) == guard


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I sort a list in Python?", "how can I sort a Python list"),
        ("Could you please tell me who wrote Hamlet?", "who wrote hamlet?"),
        ("Summarize it in three lines", "Summarise it in 3 lines"),
        ("On Linux, how do I check the disk space?", "How do I check the disk space on Linux?"),
    ],
)
def test_the_same_in_other_words_passes(a: str, b: str) -> None:
    assert between(a, b) is None


def test_no_hard_negative_passes() -> None:
    passed = [pair for pair in labelled("hard_negatives") if between(pair["a"], pair["b"]) is None]
    assert len(passed) <= 0.01 * len(labelled("hard_negatives")), passed


def test_guards_do_not_refuse_everything() -> None:
    pairs = labelled("paraphrases")
    assert sum(between(pair["a"], pair["b"]) is None for pair in pairs) >= 0.4 * len(pairs)


@given(texts)
def test_a_text_agrees_with_itself(text: str) -> None:
    assert between(text, text) is None


@given(texts, texts)
def test_disagreement_is_symmetric(a: str, b: str) -> None:
    assert between(a, b) == between(b, a)
