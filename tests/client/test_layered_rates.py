"""Layered learning rates scale what the noised sum gave, and class weights what the clip sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dp_engine_fixture import GivenGradients, engine, largest_move
from small_site import FixedRandom, flat, small_model, small_plan, token_patients
from torch import nn

from client.training.flat_parameters import FlatParameters
from client.training.layered_rates import rate_vector
from client.training.patient_loss import PatientLoss
from client.training.patient_sgd import PatientSGD
from client.training.rounds import private_engine, train_round
from client.training.site_loss import site_loss
from shared_model.plan import FederationPlan
from shared_model.weighting import RateFactor, rate_factor_of

FACTORS = [
    {"pattern": "reasoner.head.*", "factor": 0.5},
    {"pattern": "reasoner.*", "factor": 0.1},
]


def layered_plan(mode: str = "local", **training: Any) -> FederationPlan:
    return small_plan(mode, training={"rate_factors": FACTORS, **training})


def test_the_first_pattern_counts() -> None:
    factors = [RateFactor.model_validate(f) for f in FACTORS]
    assert rate_factor_of("reasoner.head.bias", factors) == 0.5
    assert rate_factor_of("reasoner.readout.common", factors) == 0.1
    assert rate_factor_of("encoder.stem", factors) == 1.0


@pytest.mark.parametrize("mode", ["none", "local"])
def test_steps_have_the_ratio_of_the_factors(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same patients, draws and noise; only the length of the way differs, by the factor."""
    monkeypatch.setattr("client.training.rounds.SecureRandom", lambda: FixedRandom(scale=1.0))
    deltas = []
    for plan in (small_plan(mode), layered_plan(mode)):
        model = small_model(plan)
        patients = token_patients(model, 5)
        deltas.append(train_round(model, patients, plan, "a", 1, "run").delta)
    plain, layered = deltas
    for name, value in plain.items():
        factor = 0.5 if name.startswith("reasoner.head.") else 0.1
        assert np.abs(value).max() > 0
        # Parameters are rounded to float32, from which the update is a small difference.
        assert layered[name] == pytest.approx(factor * value, rel=1e-3, abs=3e-7)


def test_clip_and_noise_come_before_the_factors() -> None:
    """A move of one patient is C at most in the sum, whatever the factors are; so is the noise."""
    rows = torch.tensor([[30.0, 40.0]], dtype=torch.float64)
    factors = torch.tensor([1.0, 0.01], dtype=torch.float64)
    master = FlatParameters([nn.Parameter(torch.zeros(2))])
    private = PatientSGD(
        master, GivenGradients(rows), sampling_rate=1.0, declared_patients=1, noise_multiplier=1.0,
        clipping_norm=5.0, learning_rate=1.0, weight_decay=0.0, random=FixedRandom(),
        rate_factors=factors,
    )  # fmt: skip
    assert private.clipped_sum([]).tolist() == pytest.approx([3.0, 4.0], rel=2e-4)
    private.step([])
    # The clip is over both numbers: had the factors come first, the step were (5, 0.07).
    assert master.master.tolist() == pytest.approx([-3.0, -0.04], rel=2e-4)
    quiet = engine(FlatParameters([nn.Parameter(torch.zeros(2))]), GivenGradients(rows),
                   FixedRandom(scale=1.0), clip=5.0)  # fmt: skip
    assert quiet.optimizer.noise_std == 5.0


def test_one_patient_moves_the_sum_by_at_most_c() -> None:
    assert largest_move(small_model(layered_plan()), token_patients(small_model(layered_plan()), 5),
                        0.1) <= 1  # fmt: skip


def test_the_private_engine_has_the_factors_of_its_plan() -> None:
    plan = layered_plan()
    model = small_model(plan)
    names = model.trained(plan)
    vector = rate_vector(model, names, plan)
    assert vector is not None
    assert vector.shape == flat(model.shared_arrays()).shape
    assert rate_vector(model, names, small_plan()) is None
    made = private_engine(model, names, plan, "a", 1.0, PatientLoss(), None)
    assert made._rate_factors is not None
    assert torch.equal(made._rate_factors, vector)


@pytest.mark.parametrize(
    ("training", "aggregation", "said"),
    [
        ({"rate_factors": [{"pattern": "*", "factor": 2.0}]}, {}, "less than or equal to 1"),
        ({"rate_factors": [{"pattern": "*", "factor": 0.0}]}, {}, "greater than 0"),
        ({"rate_factors": FACTORS, "local_steps": 2}, {"control_variates": True}, "rate_factors"),
        ({"class_weighting": {"shares": [0.5, 0.5]}}, {}, "2 shares, not 3"),
        ({"class_weighting": {"shares": [0.5, 0.5, 0.5]}}, {}, "add up to 1"),
        ({"class_weighting": {"shares": [0.99, 0.005, 0.005]}}, {}, "exceeds 20"),
        (
            {"class_weighting": {"shares": [0.2, 0.3, 0.5], "source": "counted"}},
            {},
            "exact counts of patients",
        ),
    ],
)
def test_what_a_plan_refuses(
    training: dict[str, Any], aggregation: dict[str, Any], said: str
) -> None:
    with pytest.raises(Exception, match=said):
        small_plan(training=training, aggregation=aggregation)


def test_counted_shares_are_for_public_data() -> None:
    shares = {"shares": [0.2, 0.3, 0.5], "source": "counted"}
    plan = small_plan("none", training={"class_weighting": shares})
    weights = plan.training.class_weighting.weights
    assert sum(w * s for w, s in zip(weights, (0.2, 0.3, 0.5), strict=True)) == pytest.approx(1)


def test_a_weight_multiplies_the_loss_before_the_clip() -> None:
    plan = small_plan(training={"class_weighting": {"shares": [0.5, 0.3, 0.2]}})
    model = small_model(plan)
    loss = site_loss(plan, "a", None)
    patients = token_patients(model, 5)
    plain, weighted = (
        torch.cat([part(model.output(p.inputs), p.labels) for p in patients])  # type: ignore[arg-type]
        for part in (PatientLoss(), loss)
    )
    labels = torch.cat([p.labels for p in patients])
    expected = torch.tensor(plan.training.class_weighting.weights)[labels]
    assert torch.allclose(weighted / plain, expected)
    private = private_engine(model, model.trained(plan), plan, "a", 0.01, loss, None)
    everybody = private.clipped_sum(patients)
    for i in range(len(patients)):
        others = private.clipped_sum(patients[:i] + patients[i + 1 :])
        assert float((everybody - others).norm()) <= 0.01
