"""Adaptive clipping: its accounting, its sensitivity, where it arrives, and that it survives."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from dp_accounting import ComposedDpEvent, GaussianDpEvent
from dp_accounting.pld import PLDAccountant
from dp_engine_fixture import GivenGradients, engine, site_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from small_site import FixedRandom, small_model, small_plan, token_patients
from torch import Tensor, nn

from client.agent.clip_rounds import restore_clip, store_clip
from client.training.adaptive_clip import AdaptiveClip
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_sgd import PatientSGD
from client.training.rounds import train_round
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import SeededRandom

ADAPTIVE = {"clipping": "adaptive"}


def rule(bound: float = 1.0, **options: float) -> AdaptiveClip:
    values = {"quantile": 0.5, "learning_rate": 0.2, "share": 0.1} | options
    return AdaptiveClip(bound, **values)


def epsilon(event: object) -> float:
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(event)
    return float(accountant.get_epsilon(1e-5))


@settings(max_examples=6, deadline=None)
@given(noise=st.floats(0.8, 20), share=st.floats(0.01, 0.9))
def test_sum_and_count_together_cost_what_one_gaussian_costs(noise: float, share: float) -> None:
    adaptive = rule(share=share)
    # dp-accounting knows nothing of our formula: two Gaussians of these sensitivities, 1 and 1/2.
    pair = ComposedDpEvent(
        [
            GaussianDpEvent(adaptive.sum_multiplier(noise) / 1.0),
            GaussianDpEvent(adaptive.count_noise(noise) / 0.5),
        ]
    )
    assert epsilon(pair) == pytest.approx(epsilon(GaussianDpEvent(noise)), rel=2e-3, abs=2e-3)


def test_the_engine_adds_the_noise_that_the_accounting_assumes() -> None:
    size, noise, clip = 200_000, 1.7, 0.25
    adaptive = rule(clip, share=0.3)
    master = nn.Parameter(torch.zeros(size, dtype=torch.float64))
    nobody = GivenGradients(torch.zeros(0, size))
    random = SeededRandom("noise of the sum")
    private = engine(
        FlatParameters([master]), nobody, random, noise=noise, clip=clip, declared=1,
        adaptive=adaptive,
    )  # fmt: skip
    private.step([])
    expected = noise / math.sqrt(1 - 0.3) * clip
    assert float(master.detach().std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * size))


class Counts(FixedRandom):
    """Everybody joins; the noise is a seeded stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = SeededRandom("noise of the count")

    def normal(self, count: int) -> object:
        return self.stream.normal(count)


def test_the_noise_on_the_count_is_seen_in_the_next_norm() -> None:
    noise, steps = 2.0, 4000
    adaptive = rule(share=0.2)
    moves = []
    flat = FlatParameters([nn.Parameter(torch.zeros(1))])
    private = engine(
        flat, GivenGradients(torch.zeros(0, 1)), Counts(), noise=noise, clip=0.5, declared=100_000,
        adaptive=adaptive,
    )  # fmt: skip
    for _ in range(steps):
        before = private.clipping_norm
        private.step([])
        moves.append(math.log(private.clipping_norm / before) / -0.2 * 100_000)
    deviation = float(torch.tensor(moves, dtype=torch.float64).std())
    assert deviation == pytest.approx(noise / (2 * math.sqrt(0.2)), rel=5 / math.sqrt(2 * steps))


class Norms:
    """Patients whose gradients have these norms, in directions of their own."""

    def __init__(self, norms: Tensor) -> None:
        self.rows = norms[:, None] * torch.nn.functional.normalize(
            torch.randn(len(norms), 20, generator=torch.Generator().manual_seed(0)), dim=1
        )

    def __call__(self, patients: list[PatientExamples]) -> object:
        yield self.rows[[int(patient.id) for patient in patients]]


def somebody(count: int) -> list[PatientExamples]:
    label = torch.zeros(1, dtype=torch.int64)
    return [PatientExamples(str(i), torch.zeros(1), label) for i in range(count)]


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_norm_arrives_at_the_quantile(quantile: float, rate: float) -> None:
    count = 400
    norms = torch.linspace(0.01, 0.4, count)
    private = engine(
        FlatParameters([nn.Parameter(torch.zeros(20))]), Norms(norms), SeededRandom("q", rate),
        noise=1.0, clip=1.0, rate=rate, declared=count, lr=1e-9,
        adaptive=rule(1.0, quantile=quantile),
    )  # fmt: skip
    after = []
    for number in range(150):
        private.step(somebody(count))
        assert 0 < private.clipping_norm <= 1
        if number >= 100:
            after.append(private.clipping_norm)
    within = float((norms <= sum(after) / len(after)).double().mean())
    assert abs(within - quantile) < 0.05


def test_the_norm_never_exceeds_its_public_bound() -> None:
    private = engine(
        FlatParameters([nn.Parameter(torch.zeros(20))]), Norms(torch.full((30,), 50.0)),
        SeededRandom("bound"), clip=0.7, declared=30, adaptive=rule(0.7),
    )  # fmt: skip
    for _ in range(20):
        private.step(somebody(30))
        assert private.clipping_norm <= 0.7
    with pytest.raises(ValueError, match="public bound"):
        engine(
            FlatParameters([nn.Parameter(torch.zeros(20))]), Norms(torch.ones(1)),
            SeededRandom("bound"), clip=0.71, adaptive=rule(0.7),
        )  # fmt: skip


@given(norm=st.floats(1e-3, 1.0), count=st.floats(-1e12, 1e12), denominator=st.floats(0.1, 1e6))
def test_one_step_changes_the_norm_by_a_bounded_factor(
    norm: float, count: float, denominator: float
) -> None:
    following = rule().following(norm, count, denominator)
    assert 1e-3 <= following <= 1.0
    assert abs(math.log(following / norm)) <= 0.2 * 0.5 + 1e-9


@settings(max_examples=40, deadline=None)
@given(
    powers=st.lists(st.integers(-12, 12), min_size=1, max_size=6),
    spoilt=st.sampled_from([0.0, math.nan, math.inf]),
    clip=st.floats(1e-3, 1e3),
)
def test_a_patient_moves_the_sum_by_at_most_c_and_the_count_by_a_half(
    powers: list[int], spoilt: float, clip: float
) -> None:
    gradients = Norms(torch.tensor([10.0**power for power in powers]))
    gradients.rows[0, 0] += spoilt
    private = engine(
        FlatParameters([nn.Parameter(torch.zeros(20))]), gradients, FixedRandom(), clip=clip,
        adaptive=rule(clip),
    )  # fmt: skip
    everybody, count = private.clipped_sums(somebody(len(powers)))
    for i in range(len(powers)):
        rest = [p for p in somebody(len(powers)) if p.id != str(i)]
        others, fewer = private.clipped_sums(rest)
        assert float((everybody - others).norm()) <= clip
        assert abs(count - fewer) == 0.5


def adaptive_plan(**options: object) -> FederationPlan:
    return small_plan(privacy={"clipping_norm": 0.1, **ADAPTIVE, **options})


def test_a_round_goes_on_where_the_last_one_arrived() -> None:
    plan = adaptive_plan(clip_learning_rate=1.0)
    site_model = small_model(plan)
    patients = token_patients(site_model, 6)
    first = train_round(site_model, patients, plan, "a", 1, "run")
    assert 0 < first.clipping_norm <= 0.1
    second = train_round(site_model, patients, plan, "a", 2, "run", 0.01)
    assert second.clipping_norm <= 0.01 * math.exp(1.0)
    # A step from 0.01 stays below what a step from the bound can reach.
    assert second.clipping_norm < 0.1 * math.exp(-0.5)


def test_without_adaptive_clipping_the_norm_is_the_plans() -> None:
    plan = small_plan(privacy={"clipping_norm": 0.3})
    site_model = small_model(plan)
    trained = train_round(site_model, token_patients(site_model, 3), plan, "a", 1, "run")
    assert trained.clipping_norm == 0.3


def test_the_next_norm_depends_on_patients_through_the_noised_count_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two hospitals with other patients and the same noised counts have the same norms after."""
    plan = adaptive_plan()
    site_model = small_model(plan)
    norms = []
    for seed in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(
                PatientSGD, "_accumulate", lambda self, people, seed=seed: self._submit(
                    torch.randn(3, len(self._master), generator=torch.Generator().manual_seed(seed))
                    .double(),
                    last=False,
                ),
            )  # fmt: skip
            private = site_engine(site_model, FixedRandom(scale=1.0), clip=0.1, adaptive=rule(0.1))
            private.step([])
            norms.append(private.clipping_norm)
            private.close()
    assert norms[0] == norms[1]


def test_a_repeated_round_starts_where_it_started_the_first_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert restore_clip(folder, 1) is None
    store_clip(folder, 0.5, 1)
    store_clip(folder, 0.4, 2)
    assert restore_clip(folder, 2) == 0.5  # round 2 is trained again, as after a crash
    store_clip(folder, 0.45, 2)
    assert restore_clip(folder, 3) == 0.45
    store_clip(folder, 0.44, 3)
    assert sorted(path.name for path in folder.iterdir()) == [
        "clip-0000002.json", "clip-0000003.json",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [{"clip_share": 1.0}, {"clip_quantile": 0.0}, {"clipping": "no"}])
def test_a_plan_with_an_impossible_rule_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(SmrfedError, match="SMR-E102"):
        adaptive_plan(**value)
