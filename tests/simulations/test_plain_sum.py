"""Rounds of secure sums without masks: void rounds, and noise that falls with the sum's size."""

from __future__ import annotations

import numpy as np
import pytest
from small_site import small_model, small_plan, token_patients
from summed_plans import as_summed

from client.training.rounds import train_round
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from simulations.federation.plain_sum import SummedRun, run_plain_sum


def plan(mode: str, noise: float = 1e-4, sites: int = 4, rounds: int = 3) -> FederationPlan:
    return as_summed(
        small_plan().model_dump(mode="json"), mode, sites, declared=3,
        privacy={"noise_multiplier": noise}, training={"rounds": rounds, "learning_rate": 1.0},
    )  # fmt: skip


def difference(one: SummedRun, two: SummedRun) -> float:
    squares = [np.square(v - two.released[n]).sum() for n, v in one.released.items()]
    return float(np.sum(squares) ** 0.5)


def test_modes_agree_without_noise_and_void_rounds_change_nothing() -> None:
    site_model = small_model(plan("distributed"))
    start = site_model.shared_arrays()
    patients = token_patients(site_model, 12)
    examples = {name: patients[3 * k : 3 * k + 3] for k, name in enumerate("abcd")}
    runs = {
        mode: run_plain_sum(plan(mode), site_model, examples, start)
        for mode in ("distributed", "central")
    }
    still = SummedRun(start, ())
    moved = difference(runs["central"], still)
    assert moved > 0.01
    assert difference(runs["central"], runs["distributed"]) < 0.05 * moved
    voided = run_plain_sum(
        plan("distributed"), site_model, examples, start,
        lambda number: "ab" if number == 2 else "c" if number == 1 else "",
    )  # fmt: skip
    assert voided.void_rounds == (2,)
    assert difference(voided, still) > 0
    nothing = run_plain_sum(plan("central"), site_model, examples, start, lambda number: "abc")
    assert nothing.void_rounds == (1, 2, 3)
    assert difference(nothing, still) == 0


def test_the_released_noise_is_sigma_c_over_everybody() -> None:
    """Nobody has patients: what is left is the noise of the step."""
    for mode in ("distributed", "central"):
        one = plan(mode, noise=2.0, rounds=1)
        site_model = small_model(one)
        start = site_model.shared_arrays()
        run = run_plain_sum(one, site_model, dict.fromkeys("abcd", ()), start, lambda number: "d")
        size = sum(value.size for value in start.values())
        expected = 2.0 * size**0.5 / 9  # three survivors with three declared patients
        assert difference(run, SummedRun(start, ())) == pytest.approx(expected, rel=0.15)


def test_a_round_of_single_updates_is_refused() -> None:
    one = plan("distributed")
    site_model = small_model(one)
    with pytest.raises(SmrfedError, match="SMR-E318"):
        train_round(site_model, [], one, "a", 1, "run")
