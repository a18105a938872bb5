"""Watts: from TDP and how busy the engine is; unknown is None."""

from __future__ import annotations

import pytest

from backends.emulator.power import BUSY_SHARE_OF_TDP, IDLE_SHARE_OF_TDP, power
from tests.sheets import sheets


def test_watts_follow_tdp_chips_and_utilisation() -> None:
    estimate = power(sheets().chip("h100"), 4)
    assert estimate is not None
    assert estimate.busy_w == pytest.approx(4 * 700 * BUSY_SHARE_OF_TDP)
    assert estimate.idle_w == pytest.approx(4 * 700 * IDLE_SHARE_OF_TDP)
    half_busy = estimate.energy_j(busy_ns=5 * 10**8, idle_ns=5 * 10**8)
    assert half_busy == pytest.approx(4 * 700 * (BUSY_SHARE_OF_TDP + IDLE_SHARE_OF_TDP) / 2)


def test_idle_engines_draw_something_and_less() -> None:
    estimate = power(sheets().chip("maia200"), 1)
    assert estimate is not None
    assert 0 < estimate.idle_w < estimate.busy_w < 750


def test_a_tdp_that_is_not_public_gives_no_estimate() -> None:
    assert sheets().chip("tpu_v6e").tdp_w.value is None
    assert power(sheets().chip("tpu_v6e"), 8) is None
