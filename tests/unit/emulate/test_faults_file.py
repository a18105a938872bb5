"""The faults file: strict, every mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.emulate.faults_file import load, read
from app.errors import ConfigError
from backends.emulator.faults import Fault, Rule

GOOD = """\
seed: 7
rules:
  - {kind: http_error, status: 429, retry_after_s: 1.5, share: 0.1}
  - {kind: slow, factor: 3, from_s: 60, until_s: 120}
  - kind: cut
    after_chunks: 4
"""


def test_a_plan_is_what_it_says() -> None:
    plan = read(GOOD, "f").plan()
    assert plan.seed == 7
    assert plan.rules == (
        Rule(Fault("http_error", status=429, retry_after_s=1.5), share=0.1),
        Rule(Fault("slow", factor=3), from_s=60, until_s=120),
        Rule(Fault("cut", after_chunks=4)),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules:\n  - {kind: cutt}\n", "f:2:5: rules[0]: there is no kind 'cutt'; did you mean 'cut'?"),
        ("rules:\n  - {share: 1}\n", "f:2:5: rules[0]: needs a 'kind'"),
        ("rules:\n  - {kind: hang, hang_s: -1}\n", "f:2:18: rules[0].hang_s: input should be greater"),
        ("rules:\n  - {kind: slow, facto: 2}\n", "f:2:18: rules[0].facto: unknown key; did you mean 'factor'?"),
        (
            "rules:\n  - {kind: cut, status: 429}\n",
            "f:2:17: rules[0].status: not a key of this entry: another mode, type or kind has it",
        ),
        ("rules:\n  - {kind: refuse, share: 1.5}\n", "f:2:20: rules[0].share"),
        ("rules:\n  - {kind: refuse, from_s: 5, until_s: 5}\n", "f:2:5: rules[0]: value error, until_s must be after"),
        ("rulez: []\n", "f:1:1: rulez: unknown key; did you mean 'rules'?"),
        ("- 1\n", "f:1:1: the document must be a mapping"),
        ("seed: 1\nseed: 2\n", "f:2:1: seed: the key is given twice"),
        ("rules: [\n", "f:2:1: "),
        ("seed: ${HOME}\n", "f:1:1: seed: the environment variable HOME is not set"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text, "f")
    assert any(problem.startswith(says) for problem in caught.value.problems), caught.value.problems


def test_json_is_read_too_and_a_missing_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"rules": [{"kind": "refuse", "share": 0.5}]}')
    assert load(path).plan().rules == (Rule(Fault("refuse"), share=0.5),)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nowhere")
