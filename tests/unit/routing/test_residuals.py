"""What is learned from observations: means, quantiles, strata, drift."""

from __future__ import annotations

import random
from math import exp, log

import pytest

from app.routing.residuals import HALF_LIFE_NS, PRIOR_Q90, WINDOW, Residuals, Stratum

KEY, OTHER = 10, 74


def factors(residuals: Residuals, key: int, now_ns: int = 0) -> tuple[float, float]:
    stratum = residuals.strata.get(key, residuals.pool)
    residuals.refresh(stratum, now_ns)
    return stratum.factor, stratum.factor_q90


def test_nothing_seen_means_the_prior_and_thirty_percent() -> None:
    factor, factor_q90 = factors(Residuals(), KEY)
    assert (factor, round(factor_q90, 9)) == (1.0, PRIOR_Q90)


@pytest.mark.parametrize("bias", [0.7, 1.0, 1.4])
def test_a_wrong_prior_is_corrected_within_a_few_dozen_observations(bias: float) -> None:
    rng, residuals = random.Random(1), Residuals()
    for _ in range(40):
        residuals.learn(KEY, bias * rng.lognormvariate(0, 0.08), 1.0, 0)
    assert factors(residuals, KEY)[0] == pytest.approx(bias, rel=0.05)


def test_the_quantile_covers_nine_in_ten_in_every_stratum() -> None:
    """One stratum is narrow, one wide: what is learned of the one says nothing of the other."""
    rng, residuals = random.Random(3), Residuals()
    spread, covered, counted = {KEY: 0.05, OTHER: 0.4}, {KEY: 0, OTHER: 0}, {KEY: 0, OTHER: 0}
    for number in range(8000):
        key = KEY if rng.random() < 0.7 else OTHER
        observed = rng.lognormvariate(0.3 if key == OTHER else 0.0, spread[key])
        if number >= 1000:
            counted[key] += 1
            covered[key] += observed <= factors(residuals, key, number)[1]
        residuals.learn(key, observed, 1.0, number)
    for key in (KEY, OTHER):
        assert 0.87 <= covered[key] / counted[key] <= 0.93, key


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_after_a_drift_the_mean_is_back_within_a_dozen_and_coverage_within_three_hundred(factor: float) -> None:
    rng, residuals = random.Random(5), Residuals()
    for _ in range(600):
        residuals.learn(KEY, rng.lognormvariate(0, 0.1), 1.0, 0)
    for _ in range(12):
        residuals.learn(KEY, factor * rng.lognormvariate(0, 0.1), 1.0, 0)
    assert factors(residuals, KEY)[0] == pytest.approx(factor, rel=0.1)
    covered = 0
    for number in range(1288):
        observed = factor * rng.lognormvariate(0, 0.1)
        covered += number >= 288 and observed <= factors(residuals, KEY)[1]
        residuals.learn(KEY, observed, 1.0, 0)
    assert 0.87 <= covered / 1000 <= 0.93


def test_without_news_the_quantile_falls_back_to_the_prior() -> None:
    rng, residuals = random.Random(7), Residuals()
    for _ in range(256):
        residuals.learn(KEY, rng.lognormvariate(0, 0.02), 1.0, 0)
    fresh = factors(residuals, KEY)[1]
    old = factors(residuals, KEY, int(20 * HALF_LIFE_NS))[1]
    assert fresh == pytest.approx(exp(0.0256), rel=0.02)
    assert old == pytest.approx(PRIOR_Q90, rel=0.02)


def test_an_outlier_moves_the_mean_by_a_bounded_step() -> None:
    residuals = Residuals()
    for _ in range(100):
        residuals.learn(KEY, 1.0, 1.0, 0)
    residuals.learn(KEY, 1e9, 1.0, 0)
    assert factors(residuals, KEY)[0] <= exp(3.0 * 0.15) + 1e-9


def test_up_and_down_are_symmetric() -> None:
    up, down = Residuals(), Residuals()
    up.learn(KEY, 2.0, 1.0, 0)
    down.learn(KEY, 0.5, 1.0, 0)
    assert log(factors(up, KEY)[0]) == pytest.approx(-log(factors(down, KEY)[0]))


def test_a_window_forgets_the_oldest_and_keeps_its_order() -> None:
    rng, stratum = random.Random(9), Stratum()
    values = [rng.gauss(0, 1) for _ in range(3 * WINDOW)]
    for value in values:
        stratum.take(value, 0)
    assert len(stratum.window) == WINDOW
    assert stratum.ranked == sorted(stratum.window)
    stratum.forget_last()
    assert len(stratum.window) == WINDOW - 1
    assert stratum.ranked == sorted(stratum.window)
