"""The soak's slope: known growth is found within its interval, restarts are no growth."""

from __future__ import annotations

import numpy as np

from simulations.benchmarks.growth import growth


def test_a_leak_is_found_and_a_level_that_jumps_with_restarts_is_none() -> None:
    chance = np.random.default_rng(0)
    rounds = list(range(200))
    lives = [number // 50 for number in rounds]
    levels = [1000.0, 5000.0, 200.0, 90000.0]
    noise = chance.normal(0, 5, 200)
    leaking = [levels[life] + 3.0 * n + e for n, life, e in zip(rounds, lives, noise, strict=True)]
    found = growth(rounds, leaking, lives)
    assert found is not None
    assert found.lives == 4
    assert found.low < 3.0 < found.high
    assert found.low > 2.9
    steady = growth(rounds, [levels[life] + e for life, e in zip(lives, noise, strict=True)], lives)
    assert steady is not None
    assert steady.low < 0 < steady.high


def test_the_interval_covers_the_truth_when_neighbours_resemble_each_other() -> None:
    covered = 0
    for seed in range(200):
        chance = np.random.default_rng(seed)
        values, last = [], 0.0
        for _ in range(150):
            last = 0.7 * last + float(chance.normal())
            values.append(last)
        found = growth(range(150), values, [0] * 150)
        assert found is not None
        covered += found.low <= 0 <= found.high
    assert covered >= 176  # 95 % would be 190; 88 % is what a short series allows


def test_lives_that_are_too_short_say_nothing() -> None:
    assert growth(range(20), range(20), [n // 5 for n in range(20)]) is None
