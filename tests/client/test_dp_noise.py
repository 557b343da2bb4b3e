"""Noise and sampling: their law, their source, and that they are never left out."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dp_engine_fixture import GivenGradients, engine, site_engine
from scipy.stats import kstest
from small_site import FixedRandom, small_model, small_plan, token_patients
from torch import nn

from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_optimizer import PatientOptimizer, noise_grid
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from shared_model.privacy.secure_random import SecureRandom, SeededRandom


def noise_deviation(site_model: SiteModel, patients: list[PatientExamples]) -> float:
    """Observed over specified noise deviation of one step without patients."""
    before = site_model.shared_arrays()
    private = site_engine(site_model, SecureRandom(), noise=3.0, clip=0.5, rate=0.5, declared=8)
    private.step(patients)
    after = site_model.shared_arrays()
    site_model.load_shared(before)
    move = np.concatenate([(after[name] - before[name]).ravel() for name in before])
    return float(move.std()) / (3.0 * 0.5 / (0.5 * 8))


def test_an_empty_draw_still_steps_with_the_specified_noise_over_the_fixed_denominator() -> None:
    site_model = small_model(small_plan())
    count = sum(p.numel() for p in site_model.parameters(site_model.groups["shared"]))
    assert abs(noise_deviation(site_model, []) - 1) < 5 / math.sqrt(2 * count)


def test_the_noise_is_normal() -> None:
    parameter = nn.Parameter(torch.zeros(100_000))
    flat = FlatParameters([parameter])
    nobody = GivenGradients(torch.zeros(0, 100_000, dtype=torch.float64))
    engine(flat, nobody, SecureRandom(), noise=1.0, clip=1.0, declared=1).step([])
    move = parameter.detach().numpy()
    assert kstest(move, "norm").pvalue > 1e-7
    assert kstest(move * 1.1, "norm").pvalue < 1e-7  # the check can fail


def test_missing_noise_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        PatientOptimizer,
        "add_noise",
        lambda self: setattr(self.params[0], "grad", self.params[0].summed_grad),
    )
    assert noise_deviation(small_model(small_plan()), []) == 0.0


def test_noise_is_drawn_once_per_step_however_many_patients_join() -> None:
    site_model = small_model(small_plan())
    random = FixedRandom(scale=1.0)
    private = site_engine(site_model, random)
    count = sum(p.numel() for p in site_model.parameters(site_model.groups["shared"]))
    for number, chosen in enumerate(([], [0], [0, 1, 2, 3]), start=1):
        random.chosen = chosen
        private.step(token_patients(site_model, 4))
        assert random.normals_drawn == number * count


def test_seeding_torch_and_numpy_does_not_repeat_a_private_round() -> None:
    plan = small_plan()
    site_model = small_model(plan)
    patients, start = token_patients(site_model, 4), site_model.shared_arrays()
    deltas = []
    for _ in range(2):
        torch.manual_seed(42)
        np.random.seed(42)  # noqa: NPY002
        site_model.load_shared(start)
        deltas.append(train_round(site_model, patients, plan, "a", 1, "run").delta)
    one, other = (np.concatenate([v.ravel() for v in delta.values()]) for delta in deltas)
    # Of values on a grid of a thousandth of the noise, one in some 3600 is equal by chance.
    assert (one == other).mean() < 0.02


def test_seeding_torch_does_not_fix_the_draws_of_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known draws shift from patient to patient where one is left out: no clip bounds that."""
    plan = small_plan()
    site = small_model(plan)
    patients = token_patients(site, 3)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        "client.training.patient_sgd.PatientSGD.step", lambda *_: seen.append(torch.rand(4))
    )
    for _ in range(2):
        torch.manual_seed(5)
        train_round(site, patients, plan, "a", 1, "run")
    assert len({tuple(draw.tolist()) for draw in seen}) == len(seen) > 1


def test_the_noised_sum_lies_on_the_grid_and_close_to_the_exact_value() -> None:
    master = nn.Parameter(torch.zeros(1000, dtype=torch.float64))
    optimizer = PatientOptimizer(
        master,
        noise_multiplier=1.3,
        clipping_norm=0.7,
        denominator=1.0,
        learning_rate=1.0,
        weight_decay=0.0,
        random=FixedRandom(scale=1.0),
    )
    assert 2.0**-11 < optimizer.grid / optimizer.noise_std <= 2.0**-10
    exact = torch.linspace(-3, 5, 1000, dtype=torch.float64)
    master.summed_grad = exact.clone()  # type: ignore[attr-defined]
    optimizer.add_noise()
    assert master.grad is not None
    steps = master.grad / optimizer.grid
    assert torch.equal(steps, steps.round())
    noise = 1.3 * 0.7 * torch.linspace(-1, 1, 1000, dtype=torch.float64)
    assert (master.grad - exact - noise).abs().max() <= optimizer.grid / 2 * (1 + 1e-9)


def test_sampling_has_the_exact_rate_and_independent_draws() -> None:
    random = SecureRandom()
    draws = 4000
    counts = np.array([len(random.select(50, 0.3)) for _ in range(draws)])
    assert abs(counts.mean() - 15) < 5 * math.sqrt(50 * 0.3 * 0.7 / draws)
    assert 0.85 < counts.var() / (50 * 0.3 * 0.7) < 1.15
    assert len(random.select(50, 1.0)) == 50


def test_the_secure_stream_cannot_be_copied() -> None:
    with pytest.raises(TypeError):
        copy.deepcopy(SecureRandom())


class Uniforms(SeededRandom):
    """The stream with uniforms that a test chose."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__("given")
        self.values = values

    def uniform(self, count: int) -> np.ndarray:
        return np.resize(self.values, count)


@pytest.mark.parametrize("extreme", [2.0**-53, 2.0**-52, 0.5, 1.0 - 2.0**-53, 1.0])
def test_box_and_muller_is_finite_at_every_end_of_the_uniforms(extreme: float) -> None:
    for other in (2.0**-53, 0.25, 0.5, 1.0):
        found = Uniforms(np.array([extreme, other])).normal(2)
        radius, angle = math.sqrt(-2 * math.log(extreme)), 2 * math.pi * other
        np.testing.assert_allclose(
            found, [radius * math.cos(angle), radius * math.sin(angle)], rtol=1e-12, atol=1e-12
        )
        assert np.isfinite(found).all()
        assert np.abs(found).max() <= 8.6


def test_uniforms_are_never_zero_and_sampling_never_exceeds_its_rate() -> None:
    words = np.array([0, 1 << 11, (1 << 64) - 1], np.uint64)
    stream = SeededRandom("words")
    stream._cipher = SimpleNamespace(update=lambda zeros: words.tobytes())  # type: ignore[assignment]
    np.testing.assert_array_equal(stream.uniform(3), [2.0**-53, 2.0**-52, 1.0])
    # Joining means uniform <= rate: of the 2^53 equally likely values floor(rate 2^53) do so.
    for rate in (2.0**-53, 1e-3, 0.3, 1.0):
        assert math.floor(rate * 2**53) / 2**53 <= rate
    assert len(stream.select(3, 2.0**-54)) == 0
    assert len(stream.select(3, 1.0)) == 3


@pytest.mark.parametrize("count", [5, 999, 1000])
def test_normals_of_odd_and_even_numbers_are_uncorrelated(count: int) -> None:
    stream = SeededRandom("pairs", count)
    rows = np.array([stream.normal(count) for _ in range(200_000 // count)])
    assert rows.shape[1] == count
    size = rows.size
    assert abs(rows.mean()) < 5 / math.sqrt(size)
    assert abs(rows.var() - 1) < 5 * math.sqrt(2 / size)
    assert abs((rows**4).mean() - 3) < 5 * math.sqrt(96 / size)
    half = (count + 1) // 2
    # Cosine and sine share a radius and an angle.
    pairs = np.c_[rows[:, : count - half].ravel(), rows[:, half:].ravel()]
    assert abs((pairs[:, 0] * pairs[:, 1]).mean()) < 5 / math.sqrt(len(pairs))
    squares = (pairs[:, 0] ** 2 - 1) * (pairs[:, 1] ** 2 - 1)
    assert abs(squares.mean()) < 5 * 2 / math.sqrt(len(pairs))


def test_the_tail_has_its_weight() -> None:
    numbers = np.abs(SeededRandom("tail").normal(4_000_000))
    for threshold in (2.0, 3.0, 4.0):
        expected = math.erfc(threshold / math.sqrt(2))
        found = (numbers > threshold).mean()
        assert abs(found - expected) < 5 * math.sqrt(expected / len(numbers))


def test_every_draw_and_every_spoilt_patient_gets_the_same_noise() -> None:
    """The noise of a step depends on nothing about patients: not how many, nor how they went."""
    noised = []
    for rows in (torch.zeros(0, 50), torch.zeros(3, 50), torch.full((2, 50), math.nan)):
        master = nn.Parameter(torch.zeros(50, dtype=torch.float64))
        given_rows = GivenGradients(rows.double())
        random = FixedRandom(scale=1.0)
        engine(FlatParameters([master]), given_rows, random, declared=1).step([])
        noised.append(master.detach().clone())
        assert random.normals_drawn == 50
    assert torch.equal(noised[0], noised[1])
    assert torch.equal(noised[0], noised[2])


@pytest.mark.parametrize("noise", [1e-8, 1e-3, 0.7, 1.0, 1e4])
def test_the_grid_is_a_power_of_two_near_a_thousandth_of_the_noise(noise: float) -> None:
    grid = noise_grid(noise)
    assert math.frexp(grid)[0] == 0.5
    assert 2.0**-11 < grid / noise <= 2.0**-10
