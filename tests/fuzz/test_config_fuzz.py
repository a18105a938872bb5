"""No file, however broken, makes the loader raise anything but ConfigError."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config import source, validate
from app.config.load import _CONFIG, shipped
from app.errors import ConfigError

EXAMPLE = (shipped() / "turnout.yaml").read_text()


def digest(text: str) -> None:
    """Everything the loader does with a text, short of reading other files."""
    try:
        parsed = source.parse(text, "f.yaml", {"HOME": "x"})
    except ConfigError:
        return
    if not isinstance(parsed.data, dict):
        return
    config = validate.typed(_CONFIG, parsed.data, parsed)
    if config is not None:
        validate.cross_check(config, parsed, ["cost"], ["max_score"])
    for problem in parsed.problems:
        assert problem.startswith("f.yaml:"), problem


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    digest(text)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["server", "models", "backends", "slo", "routing", "cache", "ledger", "policies"]), JSONISH)
def test_any_value_in_any_section(section: str, value: object) -> None:
    digest(f"version: 1\n{section}: {value!r}\n")


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_example_with_lines_lost_swapped_and_cut(rng: random.Random) -> None:
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
    digest("\n".join(lines))
