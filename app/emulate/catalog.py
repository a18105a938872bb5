"""What can be emulated: chips and models by name, the smallest group that holds a model, and how far to trust each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backends import registry
from backends.datasheet import WEIGHT_BYTES, ChipSheet, Datasheets, ModelSheet
from backends.emulator.roofline import Physics, peak_flops, physics
from backends.emulator.traits import Traits
from backends.errors import DoesNotFit, UnknownFigure
from backends.types import DeploymentSpec, Substrate

MOST_CHIPS = 4096
PREFERRED_PRECISIONS = ("fp8", "int8", "bf16")


@dataclass(frozen=True, slots=True)
class Choice:
    """A chip, how many of them, and the model and precision they hold."""

    kind: Substrate
    chip: str
    chips: int
    deployment: DeploymentSpec
    physics: Physics
    traits: Traits


def choose(
    sheets: Datasheets, substrate: str, model: str, chips: int | None, precision: str | None, kv_precision: str | None
) -> Choice:
    """`substrate` is a chip, or a kind (which stands for the first chip of its datasheet); `chips` None is the
    smallest group that fits, `precision` None what the model is published in if that is less than BF16, else the
    first of fp8, int8 and bf16, that the chip has a rate for.

    Raises: UnknownFigure, naming the nearest; DoesNotFit, saying by how much.
    """
    chip = _chip_name(sheets, substrate)
    sheet, architecture = sheets.chip(chip), sheets.model(model)
    traits = registry.traits(sheet.substrate)
    assert traits is not None, "every chip belongs to an emulated kind"

    def held_by(group: int, name: str) -> tuple[DeploymentSpec, Physics]:
        spec = DeploymentSpec(model, name, None, kv_precision)
        return spec, physics(sheet, group, architecture, spec, traits)

    wanted = precision or _first_precision(sheet, architecture, traits)
    if chips is None:
        chips = _smallest(lambda group: held_by(group, wanted))
    spec, reduced = held_by(chips, wanted)
    return Choice(sheet.substrate, chip, chips, spec, reduced, traits)


def listing(sheets: Datasheets) -> Mapping[str, list[dict[str, Any]]]:
    """Every chip and model, for `--list`."""
    return {
        "substrates": [
            {
                "chip": name,
                "substrate": chip.substrate,
                "title": chip.title,
                "memory_gb": chip.memory_gb.value,
                "precisions": list(_precisions(chip, registry.traits(chip.substrate))),
                "calibration": chip.calibration,
                "calibration_note": chip.calibration_note,
                "assumptions": list(chip.assumptions()),
            }
            for name, chip in sheets.chips.items()
        ],
        "models": [
            {
                "model": name,
                "title": model.title,
                "parameters": model.parameters,
                "context_tokens": model.context_tokens,
                "source": model.source,
            }
            for name, model in sheets.models.items()
        ],
    }


def _chip_name(sheets: Datasheets, substrate: str) -> str:
    for name, chip in sheets.chips.items():
        if substrate in (name, chip.substrate):
            return substrate if substrate in sheets.chips else name
    sheets.chip(substrate)  # says which is nearest
    raise AssertionError("an unknown chip is refused")


def _first_precision(chip: ChipSheet, model: ModelSheet, traits: Traits) -> str:
    stated = _precisions(chip, traits)
    native = (model.native_precision,) if model.native_precision is not None else ()
    return next((name for name in (*native, *PREFERRED_PRECISIONS) if name in stated), stated[0])


def _precisions(chip: ChipSheet, traits: Traits | None) -> tuple[str, ...]:
    """What the chip can compute in, its substrate's deviations included."""
    assert traits is not None, "every chip belongs to an emulated kind"
    return tuple(name for name in WEIGHT_BYTES if _has_rate(chip, name, traits))


def _has_rate(chip: ChipSheet, precision: str, traits: Traits) -> bool:
    try:
        peak_flops(chip, precision, traits)
    except UnknownFigure:
        return False
    return True


def _smallest(held_by: Callable[[int], object]) -> int:
    """The smallest group, by doubling and then halving the gap: memory only grows with it."""
    low, high = 0, 1
    while not _fits(held_by, high):
        low, high = high, high * 2
        if high > MOST_CHIPS:
            held_by(MOST_CHIPS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(held_by, middle) else (middle, high)
    return high


def _fits(held_by: Callable[[int], object], group: int) -> bool:
    try:
        held_by(group)
    except DoesNotFit:
        return False
    return True
