"""FedProx, MR-MTL and SCAFFOLD at a site: closed forms, and what the guarantee rests on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from quadratic_site import (
    SIZE,
    arrays,
    patient,
    quadratic_model,
    quadratic_plan,
    use_quadratic_losses,
)
from small_site import FixedRandom, small_model, small_plan

from client.training import rounds
from client.training.data_free import DataFreeGradient, SiteTerms, updated_own_control
from client.training.patient_optimizer import PatientOptimizer
from client.training.rounds import TrainedRound, train_round
from shared_model.plan import FederationPlan

PRIVATE = {"mode": "local", "noise_multiplier": 1.0, "epsilon": 1000.0, "clipping_norm": 100.0}
A, B, START = np.array([1.0, 2.0, 4.0]), np.array([3.0, -1.0, 0.5]), np.array([1.0, 1.0, -2.0])


@pytest.fixture(autouse=True)
def quadratic(monkeypatch: pytest.MonkeyPatch) -> None:
    use_quadratic_losses(monkeypatch)


def trained(plan: FederationPlan, terms: SiteTerms | None = None, start=START) -> TrainedRound:
    model = quadratic_model(plan, start)
    return train_round(model, [patient(A, B)], plan, "a", 1, "run", terms=terms or SiteTerms())


def prox_by_hand(mu: float, steps: int = 10, rate: float = 0.05) -> np.ndarray:
    """theta after E steps on ``F + (mu/2)||theta - theta_t||^2``: an affine map, in closed form."""
    fixed = (A * B + mu * START) / (A + mu)
    return fixed + (1 - rate * (A + mu)) ** steps * (START - fixed)


@pytest.mark.parametrize("mu", [0.0, 0.3, 2.0, 8.0])
@pytest.mark.parametrize("mode", ["none", "local"])
def test_fedprox_is_gradient_descent_on_the_proximal_objective(
    mu: float, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "SecureRandom", FixedRandom)  # everybody, and no noise
    privacy = PRIVATE | {"noise_multiplier": 1e-4} if mode == "local" else {"mode": "none"}
    plan = quadratic_plan(aggregation={"proximal_mu": mu}, privacy=privacy)
    found = START + trained(plan).delta["theta"]
    # The noised sum is rounded to the grid of its noise.
    np.testing.assert_allclose(found, prox_by_hand(mu), atol=1e-6 if mode == "none" else 1e-4)


def test_the_update_depends_on_mu_and_shrinks_with_it() -> None:
    """FedHarmony's term is detached: mu = 0 and mu = 100 give the same gradient there."""
    sizes = []
    for mu in (0.0, 0.5, 2.0, 8.0, 16.0):
        found = trained(quadratic_plan(aggregation={"proximal_mu": mu}))
        sizes.append(float(np.linalg.norm(found.delta["theta"])))
    assert all(later < 0.97 * earlier for earlier, later in itertools.pairwise(sizes))


@given(st.floats(0.01, 10), st.lists(st.floats(-5, 5), min_size=SIZE, max_size=SIZE))
def test_the_term_is_the_gradient_of_half_mu_times_the_squared_distance(
    mu: float, away: list[float]
) -> None:
    """Of the distance itself, un-squared as in FedHarmony, the gradient would have length mu."""
    plan = quadratic_plan(aggregation={"proximal_mu": mu}, training={"learning_rate": 0.01})
    model = quadratic_model(plan, START)
    term = DataFreeGradient.of(plan, model, ("theta",), SiteTerms())
    assert term is not None
    theta = (torch.from_numpy(START) + torch.tensor(away, dtype=torch.float64)).requires_grad_()
    objective = mu / 2 * (theta - torch.from_numpy(START)).square().sum()
    (expected,) = torch.autograd.grad(objective, theta)
    found = term(theta.detach())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(term(2 * theta.detach() - torch.from_numpy(START)), 2 * found)
    assert not term(torch.from_numpy(START)).any()


def test_a_plan_without_such_terms_has_none() -> None:
    plan = quadratic_plan()
    assert DataFreeGradient.of(plan, quadratic_model(plan), ("theta",), SiteTerms()) is None


def test_only_shared_parameters_are_pulled() -> None:
    plan = small_plan(
        adaptation={"personalise": "private"},
        aggregation={"proximal_mu": 0.5},
        training={"local_steps": 2},
    )
    model = small_model(plan)
    names = (*model.groups["shared"], *model.groups["site"])
    term = DataFreeGradient.of(plan, model, names, SiteTerms())
    assert term is not None
    pulled = term(term.anchor + 1)
    shared = sum(p.numel() for p in model.parameters(model.groups["shared"]))
    assert (pulled[:shared] == 0.5).all()
    assert len(pulled) > shared
    assert not pulled[shared:].any()


def test_a_scaffold_step_is_corrected_by_the_common_minus_the_own_control() -> None:
    plan = quadratic_plan(aggregation={"control_variates": True})
    common, own = np.array([1.0, -2.0, 0.25]), np.array([0.5, 0.5, -1.0])
    terms = SiteTerms(None, arrays(own), arrays(common))
    y = START.copy()
    gradients = []
    for _ in range(10):
        gradients.append(A * (y - B))
        y = y - 0.05 * (gradients[-1] - own + common)
    found = trained(plan, terms)
    np.testing.assert_allclose(START + found.delta["theta"], y, atol=1e-6)
    # Option II: c_k - c + (x - y) / (E eta), which is the mean gradient of the steps.
    np.testing.assert_allclose(found.own_control["theta"], np.mean(gradients, axis=0), atol=1e-5)


def test_under_privacy_the_control_is_built_from_noised_gradients_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It equals the mean of what left the mechanism, and is a function of the update that leaves.

    A control of the raw gradients would differ by the noise, which is large here.
    """
    plan = quadratic_plan(
        aggregation={"control_variates": True}, privacy=PRIVATE | {"clipping_norm": 1.0}
    )
    noised: list[np.ndarray] = []
    add_noise = PatientOptimizer.add_noise

    def watched(self: PatientOptimizer) -> None:
        add_noise(self)
        noised.append(self.params[0].grad.clone().numpy())

    monkeypatch.setattr(PatientOptimizer, "add_noise", watched)
    terms = SiteTerms(None, arrays([0.1, 0.2, 0.3]), arrays([-0.5, 0.0, 0.5]))
    found = trained(plan, terms)
    assert len(noised) == 10
    np.testing.assert_allclose(found.own_control["theta"], np.mean(noised, axis=0), atol=1e-5)
    again = updated_own_control(found.delta, terms, 10 * 0.05)
    np.testing.assert_array_equal(found.own_control["theta"], again["theta"])


def test_mr_mtl_goes_on_from_the_sites_own_copy_and_sends_it_relative_to_the_mean() -> None:
    strength = 0.4
    plan = quadratic_plan(aggregation={"multi_task_lambda": strength})
    own = np.array([2.0, 0.0, 1.0])
    fixed = (A * B + strength * START) / (A + strength)
    arrived = fixed + (1 - 0.05 * (A + strength)) ** 10 * (own - fixed)
    found = trained(plan, SiteTerms(own=arrays(own)))
    np.testing.assert_allclose(found.own["theta"], arrived, atol=1e-6)
    np.testing.assert_allclose(found.delta["theta"], arrived - START, atol=1e-6)
    first = trained(plan)
    np.testing.assert_allclose(
        first.own["theta"], fixed + (1 - 0.05 * (A + strength)) ** 10 * (START - fixed), atol=1e-6
    )
