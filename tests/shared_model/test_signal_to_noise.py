"""S against its own definition: the norms of a summed signal and of drawn noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared_model.plan import FederationPlan
from shared_model.privacy.signal_to_noise import patients_needed, signal_to_noise


def plan(sizes: tuple[int, ...], noise: float = 4.0, rate: float = 1.0) -> FederationPlan:
    sites = [{"name": f"s{i}", "declared_patients": n} for i, n in enumerate(sizes)]
    return FederationPlan.parse(
        {
            "name": "p",
            "privacy": {"mode": "local" if noise else "none", "noise_multiplier": noise},
            "training": {"rounds": 5, "local_steps": 2, "sampling_rate": rate},
            "federation": {"sites": sites},
        }
    )


def test_without_noise_there_is_no_ratio() -> None:
    assert signal_to_noise(plan((50,), noise=0.0), 100) is None


@pytest.mark.parametrize(("sizes", "rate"), [((40,), 1.0), ((40, 40, 40), 0.5), ((20, 200), 1.0)])
def test_it_is_the_ratio_that_a_simulation_gives(sizes: tuple[int, ...], rate: float) -> None:
    agreed, size, rng = plan(sizes, rate=rate), 400, np.random.default_rng(0)
    found = signal_to_noise(agreed, size)
    assert found is not None
    direction = rng.standard_normal(size)
    direction /= np.linalg.norm(direction)
    ratios = []
    for _ in range(50):
        signal, noise = np.zeros(size), np.zeros(size)
        for n in sizes:
            # Every drawn patient (q n of them) gives a vector of norm C in one common direction.
            signal += agreed.total_steps * direction / len(sizes)
            drawn = rng.normal(0, 4.0, (agreed.total_steps, size)).sum(0)
            noise += drawn / (rate * n) / len(sizes)
        ratios.append(np.linalg.norm(signal) / np.linalg.norm(noise))
    assert found.federation == pytest.approx(np.mean(ratios), rel=0.03)


def test_equal_hospitals_gain_the_root_of_their_number() -> None:
    one, four = signal_to_noise(plan((50,)), 1000), signal_to_noise(plan((50,) * 4), 1000)
    assert one is not None
    assert four is not None
    assert four.federation == pytest.approx(2 * one.federation)
    assert four.sites["s0"] == pytest.approx(one.federation)


def test_the_patients_needed_reach_the_target() -> None:
    few = plan((50,) * 4)
    needed = patients_needed(few, 1000)
    enough = signal_to_noise(plan((needed,) * 4), 1000)
    less = signal_to_noise(plan((needed - 1,) * 4), 1000)
    assert enough is not None
    assert less is not None
    assert less.federation < 10 <= enough.federation


@pytest.mark.parametrize(("noise", "word"), [(400.0, "random walk"), (10.0, "care"), (0.5, "comf")])
def test_the_verdict_says_what_it_means(noise: float, word: str) -> None:
    found = signal_to_noise(plan((50,) * 4, noise=noise), 1000)
    assert found is not None
    assert word in found.verdict
    assert math.isfinite(found.federation)
