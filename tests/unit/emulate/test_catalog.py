"""What can be emulated, and what is said of what cannot."""

from __future__ import annotations

import pytest

from app.emulate.catalog import choose, listing
from backends import registry
from backends.errors import DoesNotFit, UnknownFigure
from tests.sheets import sheets

MODEL = "llama-3.3-70b"


def test_a_kind_stands_for_its_first_chip_and_chips_for_the_smallest_group() -> None:
    for kind in registry.emulated_kinds():
        choice = choose(sheets(), kind, MODEL, None, None, None)
        assert choice.kind == kind
        if choice.chips > 1:
            with pytest.raises(DoesNotFit, match=f"the smallest group that fits is {choice.chips}$"):
                choose(sheets(), choice.chip, MODEL, choice.chips - 1, None, None)


def test_precisions_are_what_the_chip_has() -> None:
    assert choose(sheets(), "h100", MODEL, 2, None, None).deployment.precision == "fp8"
    assert choose(sheets(), "wse3", MODEL, 4, None, None).deployment.precision == "bf16"
    with pytest.raises(UnknownFigure, match="states no fp4 rate"):
        choose(sheets(), "h100", MODEL, 4, "fp4", None)


@pytest.mark.parametrize(
    ("substrate", "model", "says"), [("h10", MODEL, "'h100'"), ("h100", "llama-3.3-70", "'llama-3.3-70b'")]
)
def test_the_unknown_is_named_with_the_nearest(substrate: str, model: str, says: str) -> None:
    with pytest.raises(UnknownFigure, match=f"did you mean {says}"):
        choose(sheets(), substrate, model, None, None, None)


def test_the_list_shows_everything_with_its_confidence() -> None:
    found = listing(sheets())
    assert {row["chip"] for row in found["substrates"]} == set(sheets().chips)
    assert {row["model"] for row in found["models"]} == set(sheets().models)
    assert all(row["calibration_note"] for row in found["substrates"])
