"""No file, however broken, makes the loader raise anything but ConfigError, and every problem says where."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.load import load, shipped
from app.config.source import parse
from app.errors import ConfigError

EXAMPLE = (shipped() / "turnout.yaml").read_text()
DATA = parse(EXAMPLE, "turnout.yaml", {}).data
PLACED = re.compile(r".+?:\d+:\d+: .")

any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
fuzz = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turnout.yaml"


def digest(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        problems: tuple[str, ...] = ()
        load(path, {"HOME": "x"})
    except ConfigError as error:
        problems = error.problems or ("a ConfigError without a problem",)
    for problem in problems:
        assert PLACED.match(problem), problem


@fuzz
@given(content=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(path: Path, content: bytes) -> None:
    digest(path, content)


@fuzz
@given(content=st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t${}", max_size=60))
def test_any_punctuation(path: Path, content: str) -> None:
    digest(path, b"version: 1\n" + content.encode())


@fuzz
@given(rng=st.randoms(use_true_random=False), value=any_value)
def test_any_value_anywhere_in_the_example(path: Path, rng: random.Random, value: object) -> None:
    data = copy.deepcopy(DATA)
    holder: Any = data
    while True:
        at = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        inner = holder[at]
        if not inner or not isinstance(inner, dict | list) or rng.random() < 0.2:
            break
        holder = inner
    holder[at] = value
    digest(path, json.dumps(data, default=str).encode())


@fuzz
@given(rng=st.randoms(use_true_random=False))
def test_the_example_with_lines_lost_swapped_and_cut(path: Path, rng: random.Random) -> None:
    lines = EXAMPLE.splitlines()
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(lines))
        kind = rng.randrange(4)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 2:
            lines[at] = lines[at][: rng.randint(0, len(lines[at]))]
        else:
            lines[at] = " " * rng.randint(0, 9) + lines[at].lstrip()
    digest(path, "\n".join(lines).encode())
