"""A site's part of a secure sum: sensitivity, truth, noise, and equality with one pooled site."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from dp_engine_fixture import GivenGradients, one_by_one
from scipy import stats
from small_site import small_model, small_plan, token_patients, volume_patients
from summed_plans import as_summed
from test_dp_switches import PEOPLE, Heads, combinations, plan_of, released_moments
from torch import Tensor

from client.training import precision
from client.training.augmentation.views import PlannedViews
from client.training.examples import PatientExamples, patient_examples
from client.training.integer_sum import IntegerPatientSum
from client.training.self_test import sensitivity_self_test, synthetic_inputs
from client.training.shared_sum import require_summable, shared_sum
from client.training.site_shift import shift_site
from server.aggregation.summed import SummedUpdate, add_modulo
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.clipping_margin import CLIPPING_MARGIN
from shared_model.privacy.secure_random import SeededRandom, Words
from shared_model.privacy.summed_noise import share_variance

SCALE = 2.0**40


class Drawn:
    """Draws these patients, or everybody; its words, and so the noise, are seeded."""

    def __init__(self, chosen: list[int] | None = None, seed: str = "noise") -> None:
        self.chosen, self._stream = chosen, SeededRandom(seed)
        self.asked: list[tuple[int, float]] = []

    def select(self, count: int, rate: float) -> Any:
        self.asked.append((count, rate))
        return np.arange(count) if self.chosen is None else np.array(self.chosen, np.intp)

    def words(self, count: int) -> Words:
        return self._stream.words(count)


def summed(mode: str = "central", sites: int = 4, **sections: Any) -> FederationPlan:
    return as_summed(small_plan().model_dump(mode="json"), mode, sites, **sections)


def flat(arrays: dict[str, Any]) -> np.ndarray:
    return np.concatenate([value.reshape(-1) for value in arrays.values()])


def admitted() -> list[Any]:
    """Those that a plan with a sum admits; slow where they are for the other modes."""
    out = []
    for case in combinations():
        chosen = case.values[0]
        if chosen["clipping"] != "fixed" or chosen["personalise"] == "private":
            continue
        units = ("patient", "hospital") if chosen["site_moments"] == "off" else ("patient",)
        out += [
            pytest.param(chosen, unit, id=f"{case.id}-{unit}", marks=case.marks) for unit in units
        ]
    return out


@pytest.mark.parametrize(("switches", "unit"), admitted())
def test_one_patient_moves_the_integers_by_at_most_c(
    switches: dict[str, Any], unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    view = PlannedViews._view

    def spoilt_view(self: PlannedViews, volume: Tensor, *key: str | int) -> Tensor:
        return view(self, volume, *key) * (math.nan if "spoilt" in key else 1.0)

    monkeypatch.setattr(PlannedViews, "_view", spoilt_view)  # augmenting would repair a NaN
    data = plan_of(switches).model_dump(mode="json")
    data["privacy"]["unit"] = unit
    data["privacy"]["mode"] = "central"
    plan = as_summed(data, "central", declared=2, privacy={"unit": unit})
    site_model = small_model(plan)
    moments = released_moments(site_model)

    def of(people: list[PatientExamples]) -> np.ndarray:
        if moments is not None and plan.adaptation.moments_set_the_residual:
            shift_site(site_model, "a", moments)
        return flat(
            shared_sum(site_model, people, plan, "a", 1, "run", moments=moments, random=Drawn())
        )

    examples = list(patient_examples(site_model, PEOPLE, Heads(), training=True))
    most = plan.privacy.clipping_norm * SCALE
    everybody = of(examples)
    assert everybody.dtype == np.int64
    assert np.linalg.norm(everybody) > 0.1 * most
    assert np.linalg.norm(everybody) <= (len(PEOPLE) if unit == "patient" else 1) * most
    moves = [
        float(np.linalg.norm(everybody - of(examples[:i] + examples[i + 1 :]))) / most
        for i in range(len(PEOPLE))
    ]
    assert max(moves) <= 1
    assert moves[2] < 1e-4  # a gradient that is not finite counts as zero
    if unit == "patient":
        assert moves[0] > 0.99  # the clip is at work, and not needlessly below C
    assert not of([]).any()


def test_the_integers_are_the_micro_batch_truth() -> None:
    plan = summed(privacy={"clipping_norm": 0.05})
    site_model = small_model(plan)
    patients = token_patients(site_model, 5)
    expected = np.zeros(0)
    for patient in patients:
        mean = one_by_one(site_model, patient)
        clipped = mean * min(1.0, 0.05 * (1 - CLIPPING_MARGIN) / (float(mean.norm()) + 1e-6))
        row = np.rint(clipped.numpy() * SCALE)
        expected = row if not len(expected) else expected + row
    random = Drawn()
    found = flat(shared_sum(site_model, patients, plan, "a", 1, "run", random=random))
    assert random.asked == [(5, 1.0)]
    # The engine's gradients are float32: equal to the rounding of those.
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
    drawn = Drawn([1, 3])
    some = flat(shared_sum(site_model, patients, plan, "a", 1, "run", random=drawn))
    alone = [
        flat(shared_sum(site_model, [patients[i]], plan, "a", 1, "run", random=Drawn()))
        for i in (1, 3)
    ]
    assert np.abs(some - sum(alone)).max() < 1e-6 * SCALE


def test_given_gradients_give_exactly_these_integers() -> None:
    rows = torch.tensor([[3.0, 4.0, 0.0], [0.3, 0.0, -0.4], [math.nan, 1.0, 1.0]])
    sums = IntegerPatientSum(GivenGradients(rows), 3, clipping_norm=1.0, fraction_bits=20)
    nobody: list[PatientExamples] = []
    bound = 1 - CLIPPING_MARGIN
    long = rows[0].double() * (bound / (5 + 1e-6))
    expected = (long * 2**20).round() + (rows[1].double() * 2**20).round()
    np.testing.assert_array_equal(sums.of_patients(nobody), expected.numpy().astype(np.int64))
    assert sums.zeroed_patients == 1
    whole = sums.of_hospital(nobody, 1.0)
    mean = long + rows[1].double()
    mean *= bound / mean.norm()
    np.testing.assert_array_equal(whole, (mean * 2**20).round().numpy().astype(np.int64))
    small = sums.of_hospital(nobody, 100.0)
    expected = ((long + rows[1].double()) / 100 * 2**20).round()
    np.testing.assert_array_equal(small, expected.numpy().astype(np.int64))


@pytest.mark.parametrize("clip", [1e-4, 3.0])
def test_a_hospital_is_never_longer_than_c(clip: float) -> None:
    plan = summed(declared=2, privacy={"unit": "hospital", "clipping_norm": clip})
    site_model = small_model(plan)
    patients = token_patients(site_model, 12)
    found = flat(shared_sum(site_model, patients, plan, "a", 1, "run", random=Drawn()))
    assert 0 < np.linalg.norm(found) <= clip * SCALE


def test_the_sum_over_sites_is_that_of_one_pooled_site() -> None:
    """Bit for bit: integers add up in any order, so only whose patients they are differs."""
    plan = summed(sites=4)
    site_model = small_model(plan)
    everybody = volume_patients(7) if not site_model.uses_tokens else token_patients(site_model, 7)
    # One patient at a time, so that float32 gradients have the same bits in every group.
    parts = [everybody[:3], everybody[3:4], everybody[4:], []]
    theta = site_model.shared_arrays()

    def of(people: list[PatientExamples], name: str) -> dict[str, Any]:
        site_model.load_shared(theta)
        zero = {n: np.zeros(v.shape, np.int64) for n, v in theta.items()}
        for person in people:
            part = shared_sum(site_model, [person], plan, name, 1, "run", random=Drawn())
            zero = add_modulo(zero, part)
        return zero

    total = of(parts[0], "a")
    for name, people in zip("bcd", parts[1:], strict=True):
        total = add_modulo(total, of(people, name))
    pooled = of(everybody, "a")
    for name, value in pooled.items():
        np.testing.assert_array_equal(total[name], value)
    together = shared_sum(site_model, everybody, plan, "a", 1, "run", random=Drawn())
    difference = np.linalg.norm(flat(together) - flat(pooled))
    assert difference < 1e-6 * np.linalg.norm(flat(pooled))


def test_one_round_is_one_step_of_pooled_sgd() -> None:
    """Before the coordinator's noise: theta - lr times the mean of all clipped gradients."""
    plan = summed("distributed", declared=5, training={"learning_rate": 0.3, "weight_decay": 0.1})
    quiet = plan.privacy.model_copy(update={"mode": "central"})
    site_model = small_model(plan.model_copy(update={"privacy": quiet}))
    theta = site_model.shared_arrays()
    people = token_patients(site_model, 6)
    total = {n: np.zeros(v.shape, np.int64) for n, v in theta.items()}
    for name, part in zip("abc", (people[:2], people[2:3], people[3:]), strict=True):
        own = shared_sum(
            site_model, part, plan.model_copy(update={"privacy": quiet}), name, 1, "r",
            random=Drawn(),
        )  # fmt: skip
        total = add_modulo(total, own)
    new = SummedUpdate(plan, total, ["a", "b", "c"], theta).step(theta, 1.0)
    truth = torch.zeros(sum(v.size for v in theta.values()), dtype=torch.float64)
    for person in people:
        mean = one_by_one(site_model, person)
        truth += mean * min(1.0, (1 - CLIPPING_MARGIN) / (float(mean.norm()) + 1e-6))
    before = flat(theta).astype(np.float64)
    expected = before - 0.3 * (truth.numpy() / 15 + 0.1 * before)
    np.testing.assert_allclose(flat(new), expected, rtol=2e-6, atol=1e-6)


def test_the_noise_of_a_share_is_what_the_accountant_counts_on() -> None:
    """Mode distributed minus mode central, summed over the fewest sites: N(0, sigma C 2^f)."""
    plan, bare = summed("distributed", sites=3), summed("central", sites=3)
    site_model = small_model(plan)
    patients = token_patients(site_model, 3)
    shares = []
    for k, name in enumerate("ab"):  # min_survivors 2 of 3
        quiet = shared_sum(site_model, patients, bare, name, 1, "run", random=Drawn())
        noisy = shared_sum(site_model, patients, plan, name, 1, "run", random=Drawn(seed=str(k)))
        shares.append(flat(noisy) - flat(quiet))
    deviation = 2.0 * SCALE
    assert share_variance(plan) == pytest.approx(deviation**2 / 2)
    for values, sd in ((shares[0], deviation / 2**0.5), (shares[0] + shares[1], deviation)):
        squares = float(np.square(values / sd).sum())
        assert 1e-4 < stats.chi2(len(values)).cdf(squares) < 1 - 1e-4
        assert stats.kstest(values / sd, "norm").pvalue > 1e-4
    # An empty draw is noised like any other, and nobody can repeat the noise.
    empty = flat(shared_sum(site_model, [], plan, "a", 1, "run"))
    assert 0.8 < empty.std() / (deviation / 2**0.5) < 1.2
    assert (empty != flat(shared_sum(site_model, [], plan, "a", 1, "run"))).mean() > 0.99


def test_seeds_have_no_influence_on_draw_or_noise() -> None:
    plan = summed("distributed", training={"sampling_rate": 0.5})
    site_model = small_model(plan)
    patients = token_patients(site_model, 6)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        found.append(flat(shared_sum(site_model, patients, plan, "a", 1, "run")))
    assert (found[0] != found[1]).mean() > 0.99


def test_residuals_of_earlier_runs_do_not_steer_the_sum() -> None:
    plan = summed()
    site_model = small_model(plan)
    patients = token_patients(site_model, 3)
    clean = flat(shared_sum(site_model, patients, plan, "a", 1, "run", random=Drawn()))
    moved = {n: v + 1 for n, v in site_model.site_arrays().items()}
    assert moved
    site_model.load_site(moved)
    again = flat(shared_sum(site_model, patients, plan, "a", 1, "run", random=Drawn()))
    np.testing.assert_array_equal(clean, again)


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_the_self_test_holds_the_integers_too(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site_model = small_model(summed(mode))
    inputs = synthetic_inputs(site_model)
    assert 0.99 < sensitivity_self_test(site_model, inputs) <= 1
    # The mutant: the integers are clipped to another norm than the noise is for.
    clipped = IntegerPatientSum._clipped

    def wider(self: IntegerPatientSum, patients: Any) -> Iterator[Tensor]:
        self._bound *= 1.01
        return clipped(self, patients)

    monkeypatch.setattr(IntegerPatientSum, "_clipped", wider)
    with pytest.raises(SmrfedError, match="SMR-E308"):
        sensitivity_self_test(site_model, inputs)


def test_limits_are_refused_by_number() -> None:
    require_summable(1 << 24)
    with pytest.raises(SmrfedError, match="SMR-E317"):
        require_summable((1 << 24) + 1)
    with pytest.raises(ValueError, match="too coarse"):
        IntegerPatientSum(GivenGradients(torch.zeros(1, 9)), 9, clipping_norm=1.0, fraction_bits=8)
    plan = summed()
    site_model = small_model(plan)
    with pytest.raises(SmrfedError, match="SMR-E104"):
        shared_sum(site_model, [], plan, "z", 1, "run")
    with pytest.raises(ValueError, match="no secure sum"):
        shared_sum(site_model, [], small_plan(), "a", 1, "run")
