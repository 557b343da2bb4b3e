"""Patient-level DP-SGD: gradients, clipping, noise, sampling, against loops and against Opacus."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from scipy.stats import kstest
from small_site import FixedRandom, small_model, small_plan, token_patients, volume_patients
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from client.privacy.secure_random import RandomStream, SecureRandom
from client.training import patient_sgd
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import (
    LoopGradients,
    MappedGradients,
    PatientGradients,
    patient_gradients,
)
from client.training.patient_sgd import CLIPPING_MARGIN, PatientOptimizer, PatientSGD
from client.training.personalise import personalise
from client.training.rounds import train_round
from client.training.self_test import sensitivity_self_test, synthetic_inputs
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError


def engine(
    flat: FlatParameters,
    gradients: PatientGradients,
    random: RandomStream,
    *,
    noise: float = 1.0,
    clip: float = 1.0,
    rate: float = 1.0,
    declared: int = 4,
    lr: float = 1.0,
) -> PatientSGD:
    return PatientSGD(
        flat,
        gradients,
        sampling_rate=rate,
        declared_patients=declared,
        noise_multiplier=noise,
        clipping_norm=clip,
        learning_rate=lr,
        weight_decay=0.0,
        random=random,
    )


def site_engine(site_model: SiteModel, random: RandomStream, **options: float) -> PatientSGD:
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    return engine(flat, patient_gradients(site_model, names, flat), random, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_the_clipped_sum_is_the_loop_over_single_backwards(
    dtype: torch.dtype, tolerance: float, encoder: str
) -> None:
    plan = small_plan(encoder=encoder)
    site_model = small_model(plan)
    patients = token_patients(site_model, 4) if encoder == "frozen" else volume_patients(2)
    site_model.model.to(dtype)
    patients = [PatientExamples(p.id, p.inputs.to(dtype), p.labels) for p in patients]  # type: ignore[union-attr]
    parameters = site_model.parameters(site_model.groups["shared"])
    expected = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    clip = 0.5
    for patient in patients:
        mean = torch.zeros_like(expected)
        for row in range(len(patient.labels)):  # one scan at a time, averaged over the scans
            loss = cross_entropy(
                site_model.logits(patient.inputs[row : row + 1]),  # type: ignore[index]
                patient.labels[row : row + 1],
            )
            grads = torch.autograd.grad(loss, parameters)
            mean += torch.cat([g.reshape(-1).double() for g in grads]) / len(patient.labels)
        assert mean.norm() > clip  # the clip is at work
        # Opacus adds 1e-6 to the norm before it divides.
        expected += mean * clip * (1 - CLIPPING_MARGIN) / (mean.norm() + 1e-6)
    names = site_model.groups["shared"]
    flat = FlatParameters(parameters)
    ways: list[PatientGradients] = [LoopGradients(site_model.logits, flat)]
    if encoder == "frozen":
        assert isinstance(patient_gradients(site_model, names, flat), MappedGradients)
        ways.append(MappedGradients(site_model.model, names, 2**20))
        ways.append(MappedGradients(site_model.model, names, len(expected)))
    for way in ways:
        found = engine(flat, way, FixedRandom(), clip=clip).clipped_sum(patients)
        assert (found - expected).norm() / expected.norm() < tolerance


def conv_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(64, 3)
    ).double()


def test_steps_equal_those_of_opacus_hooks_with_the_noise_off() -> None:
    mine, theirs = conv_model(), conv_model()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(10, 1, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.arange(10) % 3
    patients = [PatientExamples(str(i), x[i : i + 1], y[i : i + 1]) for i in range(10)]
    random = FixedRandom()
    clip = 0.7
    flat = FlatParameters(tuple(mine.parameters()))
    private = engine(
        flat, LoopGradients(mine, flat), random, noise=1e-13, clip=clip, declared=5, lr=0.3
    )
    hooked = GradSampleModule(theirs, loss_reduction="sum")
    opacus = DPOptimizer(
        torch.optim.SGD(hooked.parameters(), lr=0.3),
        noise_multiplier=0.0,
        max_grad_norm=clip * (1 - CLIPPING_MARGIN),
        expected_batch_size=5,
    )
    for chosen in ([0, 3, 7, 8], [], [1, 2], [9]):
        random.chosen = chosen
        private.step(patients)
        opacus.zero_grad()
        if chosen:
            cross_entropy(hooked(x[chosen]), y[chosen], reduction="sum").backward()
        else:
            for p in hooked.parameters():
                p.grad_sample = p.new_zeros(0, *p.shape)
        opacus.step()
    difference = max(
        float((a - b).detach().abs().max())
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True)
    )
    assert difference < 1e-12


def largest_move(site_model: SiteModel, patients: list[PatientExamples], clip: float) -> float:
    """Largest change of the clipped sum, over C, when one patient is removed."""
    private = site_engine(site_model, FixedRandom(), clip=clip)
    everybody = private.clipped_sum(patients)
    return max(
        float((everybody - private.clipped_sum(patients[:i] + patients[i + 1 :])).norm()) / clip
        for i in range(len(patients))
    )


class GivenGradients:
    """Hands out rows that a test made, as the gradients of as many patients."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __call__(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        yield self.rows


@settings(max_examples=60, deadline=None)
@given(
    power=st.integers(-30, 30),
    clip=st.floats(1e-6, 1e6),
    size=st.integers(1, 3000),
    seed=st.integers(0, 2**31),
)
def test_no_gradient_of_any_size_gets_past_the_clip(
    power: int, clip: float, size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    row = torch.randn(1, size, generator=generator, dtype=torch.float64) * 10.0**power
    flat = FlatParameters([nn.Parameter(torch.zeros(size))])
    clipped = engine(flat, GivenGradients(row), FixedRandom(), clip=clip).clipped_sum([])
    norm = float(clipped.norm())
    assert norm <= clip
    if float(row.norm()) < clip * 0.99 - 1e-6:
        assert norm == pytest.approx(float(row.norm()), rel=1e-12)
    # Opacus adds 1e-6 to the norm: the clip is tight where the norm is well above that.
    elif float(row.norm()) > max(clip, 1.0):
        assert norm >= clip * (1 - CLIPPING_MARGIN - 2e-6)


@pytest.mark.parametrize("clip", [1e-3, 0.1, 10.0])
def test_removing_a_patient_moves_the_clipped_sum_by_at_most_c(clip: float) -> None:
    site_model = small_model(small_plan())
    # Not a bit more, though the others are computed in a batch of another size.
    assert largest_move(site_model, token_patients(site_model, 5), clip) <= 1


def later_round_difference(
    monkeypatch: pytest.MonkeyPatch, site_norm: str, personalise_when: str
) -> float:
    """How far the others' clipped sum moves, over C, when an outlier was not in earlier rounds.

    Both worlds train a round, finish that run (personalising if the plan says so) and receive the
    same global parameters in the next run, as under adaptive composition: only state that stayed at
    the site can tell them apart.
    """
    clip = 1e-3
    plan = small_plan(
        site_norm=site_norm,
        privacy={"clipping_norm": clip},
        adaptation={"personalise": personalise_when, "personalise_steps": 20},
    )
    sums: list[Tensor] = []
    for without in (0, 1):
        site_model = small_model(plan)
        patients = token_patients(site_model, 6)
        outlier = token_patients(site_model, 1, seed=9)[0]
        outlier.inputs.regions.mul_(50)  # type: ignore[union-attr]
        start = site_model.shared_arrays()
        earlier = [*patients, outlier][: 7 - without]
        train_round(site_model, earlier, plan, "a", 1, "run")
        personalise(site_model, earlier, plan)
        site_model.load_shared(start)
        with monkeypatch.context() as patch:
            patch.setattr(
                PatientSGD, "step", lambda self, people: sums.append(self.clipped_sum(people))
            )
            train_round(site_model, patients, plan, "a", 1, "next-run")
    return float((sums[0] - sums[1]).norm()) / clip


@pytest.mark.parametrize(
    ("site_norm", "personalise_when"),
    list(itertools.product(["off", "shared", "residual"], ["never", "after"])),
)
def test_no_state_that_stays_at_the_site_steers_a_release(
    monkeypatch: pytest.MonkeyPatch, site_norm: str, personalise_when: str
) -> None:
    assert later_round_difference(monkeypatch, site_norm, personalise_when) == 0.0


def test_a_residual_that_steers_a_release_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mutant of the test above: the personalised residual is not reset."""
    monkeypatch.setattr(SiteModel, "reset_site", lambda self: None)
    assert later_round_difference(monkeypatch, "residual", "after") > 0.05


@pytest.mark.parametrize("personalise_when", ["never", "after"])
def test_local_norms_are_refused_under_privacy(personalise_when: str) -> None:
    plan = small_plan(site_norm="local", adaptation={"personalise": personalise_when})
    site_model = small_model(plan)
    with pytest.raises(SmrfedError, match="SMR-E304"):
        train_round(site_model, token_patients(site_model, 3), plan, "a", 1, "run")


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


def test_a_missing_clip_is_noticed_by_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    site_model = small_model(small_plan())
    inputs = synthetic_inputs(site_model)
    monkeypatch.setattr(patient_sgd, "CLIPPING_MARGIN", -1e12)
    with pytest.raises(SmrfedError, match="SMR-E308"):
        sensitivity_self_test(site_model, inputs)


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


def test_the_denominator_is_public_whoever_joins() -> None:
    site_model = small_model(small_plan())
    patients = token_patients(site_model, 6)
    start = site_model.shared_arrays()
    for chosen in ([0], [0, 1, 2, 3, 4, 5]):
        site_model.load_shared(start)
        random = FixedRandom(chosen)
        private = site_engine(site_model, random, noise=1e-9, rate=0.25, declared=40, lr=2.0)
        total = private.clipped_sum([patients[i] for i in chosen])
        private.step(patients)
        after = site_model.shared_arrays()
        move = np.concatenate([(after[n] - start[n]).ravel() for n in start])
        np.testing.assert_allclose(move, -2.0 * total.numpy() / (0.25 * 40), atol=1e-6)


def test_a_patient_with_a_gradient_that_is_not_finite_counts_as_zero_and_the_noise_stays() -> None:
    site_model = small_model(small_plan())
    good = token_patients(site_model, 2)
    bad = token_patients(site_model, 2, seed=5)[1]
    bad.inputs.regions[0, 0, 0, 0] = math.nan  # type: ignore[union-attr]
    random = FixedRandom(scale=1.0)
    private = site_engine(site_model, random)
    with_bad, without = private.clipped_sum([*good, bad]), private.clipped_sum(good)
    # Products of another size may be added in another order, to the last bits of float32.
    torch.testing.assert_close(with_bad, without, rtol=0, atol=1e-7)
    assert private.zeroed_patients == 1
    private.step([bad])
    assert random.normals_drawn > 0
    assert all(np.isfinite(v).all() for v in site_model.shared_arrays().values())


def test_all_scans_of_a_patient_are_clipped_once() -> None:
    site_model = small_model(small_plan())
    one = token_patients(site_model, 1, scans=1)[0]
    many = PatientExamples(
        "many",
        type(one.inputs).cat([one.inputs] * 5),  # type: ignore[union-attr,arg-type]
        one.labels.repeat(5),
    )
    private = site_engine(site_model, FixedRandom(), clip=1e-3)
    assert float(private.clipped_sum([many]).norm()) <= 1e-3
    separately = private.clipped_sum([one] * 5)
    assert float(separately.norm()) > 4.9e-3  # five patients would count five times


def test_sampling_has_the_exact_rate_and_independent_draws() -> None:
    random = SecureRandom()
    draws = 4000
    counts = np.array([len(random.select(50, 0.3)) for _ in range(draws)])
    assert abs(counts.mean() - 15) < 5 * math.sqrt(50 * 0.3 * 0.7 / draws)
    assert 0.85 < counts.var() / (50 * 0.3 * 0.7) < 1.15
    assert len(random.select(50, 1.0)) == 50


def test_frozen_and_site_parameters_do_not_move_in_a_round() -> None:
    plan = small_plan(training={"local_steps": 2})
    site_model = small_model(plan)
    before = copy.deepcopy(site_model.model.state_dict())
    train_round(site_model, token_patients(site_model, 3), plan, "a", 1, "run")
    shared = set(site_model.groups["shared"])
    for name, value in site_model.model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in shared), name


class BatchNormModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(30, 3)

    def forward(self, x: Tensor) -> object:
        return SimpleNamespace(logits=self.head(self.norm(x).flatten(1)))


class MeanModel(BatchNormModel):
    """Couples patients without any buffer."""

    def forward(self, x: Tensor) -> object:
        return SimpleNamespace(logits=self.head((x - x.mean(0) / 2).flatten(1)))


@pytest.mark.parametrize("broken", [BatchNormModel, MeanModel])
def test_the_self_test_refuses_models_that_couple_patients(broken: type[nn.Module]) -> None:
    plan = small_plan().model_copy(update={"groups": small_plan().groups.model_copy(
        update={"frozen": (), "shared": ("*",), "site": ()})})  # fmt: skip
    site_model = SiteModel(broken(), plan)
    inputs = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(SmrfedError, match="SMR-E308"):
        sensitivity_self_test(site_model, inputs)


@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_the_self_test_passes_smrnet_and_the_clip_is_tight(encoder: str) -> None:
    site_model = small_model(small_plan(encoder=encoder))
    worst = sensitivity_self_test(site_model, synthetic_inputs(site_model, 2))
    assert 0.99 < worst <= 1


def test_the_secure_stream_cannot_be_copied() -> None:
    with pytest.raises(TypeError):
        copy.deepcopy(SecureRandom())
