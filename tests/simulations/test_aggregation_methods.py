"""Whole runs on heterogeneous quadratics, whose optima are known: who arrives where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from quadratic_site import arrays, patient, quadratic_model, quadratic_plan, use_quadratic_losses

from client.training import rounds
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import SeededRandom
from simulations.arms import train_rounds as module
from simulations.arms.train_rounds import train_rounds

SITES = ("a", "b", "c")
CURVATURE = {"a": np.array([1.0, 6.0, 2.0]), "b": np.array([4.0, 1.0, 0.5]),
             "c": np.array([0.5, 2.0, 8.0])}  # fmt: skip
MINIMUM = {"a": np.array([2.0, -1.0, 0.0]), "b": np.array([-3.0, 4.0, 1.0]),
           "c": np.array([5.0, 1.0, -2.0])}  # fmt: skip
RATE, STEPS = 0.05, 4


@pytest.fixture(autouse=True)
def quadratic(monkeypatch: pytest.MonkeyPatch) -> None:
    use_quadratic_losses(monkeypatch)


def plan_of(number: int = 120, weights: dict[str, int] | None = None, **sections: Any):
    training = {"rounds": number, "local_steps": STEPS, "learning_rate": RATE}
    federation: dict[str, Any] = {}
    if weights is not None:
        federation = {
            "weighting": "declared_patients",
            "sites": [{"name": n, "declared_patients": w} for n, w in weights.items()],
        }
    return quadratic_plan(
        *SITES,
        federation=federation,
        training=training | sections.pop("training", {}),
        **sections,
    )


def result(plan: FederationPlan, counts: dict[str, int] | None = None) -> np.ndarray:
    """Where the run arrives; a site has as many equal patients as it declared."""
    people = {
        site: [patient(CURVATURE[site], MINIMUM[site])] * (counts or {}).get(site, 1)
        for site in SITES
    }
    return train_rounds(quadratic_model(plan), arrays(0.0), people, plan)["theta"].astype(float)


def optimum(weights: dict[str, float] | None = None) -> np.ndarray:
    """Of the weighted mean of the sites' objectives."""
    w = weights or dict.fromkeys(SITES, 1.0)
    total = sum(w[s] * CURVATURE[s] for s in SITES)
    return sum(w[s] * CURVATURE[s] * MINIMUM[s] for s in SITES) / total


def fedavg_limit(mu: float = 0.0, steps: int = STEPS) -> np.ndarray:
    """The fixed point of E local steps and a mean: not the optimum when sites differ.

    A round maps theta to ``mean_k [f_k + r_k (theta - f_k)]`` with ``f_k`` the minimum of
    ``F_k + (mu / 2) ||. - theta||^2`` and ``r_k = (1 - eta (a_k + mu))^E``.
    """
    gain = {
        s: CURVATURE[s] / (CURVATURE[s] + mu) * (1 - (1 - RATE * (CURVATURE[s] + mu)) ** steps)
        for s in SITES
    }
    return sum(gain[s] * MINIMUM[s] for s in SITES) / sum(gain.values())


def test_fedavg_with_local_steps_misses_the_optimum_just_where_theory_says() -> None:
    found = result(plan_of())
    np.testing.assert_allclose(found, fedavg_limit(), atol=1e-4)
    assert np.abs(found - optimum()).max() > 0.05


def test_fedprox_lies_where_theory_says_and_nearer() -> None:
    many = {"local_steps": 10}
    found = result(plan_of(aggregation={"proximal_mu": 10.0}, training=many))
    np.testing.assert_allclose(found, fedavg_limit(10.0, 10), atol=1e-4)
    drift = np.linalg.norm(found - optimum())
    assert 0.02 < drift < 0.5 * np.linalg.norm(fedavg_limit(steps=10) - optimum())


def test_scaffold_finds_the_optimum_with_the_same_local_steps() -> None:
    found = result(plan_of(aggregation={"control_variates": True}))
    np.testing.assert_allclose(found, optimum(), atol=2e-5)


def test_scaffold_with_unequal_weights_finds_the_weighted_optimum() -> None:
    counts = {"a": 1, "b": 4, "c": 2}
    found = result(plan_of(weights=counts, aggregation={"control_variates": True}), counts)
    np.testing.assert_allclose(found, optimum({s: float(n) for s, n in counts.items()}), atol=2e-5)
    assert np.abs(found - optimum()).max() > 0.1


def test_scaffold_under_privacy_is_unbiased_where_fedavg_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Controls of noised gradients: the noise stays, the pull of the sites goes."""
    draws = iter(range(10**6))
    monkeypatch.setattr(rounds, "SecureRandom", lambda: SeededRandom(next(draws)))
    private = {"mode": "local", "noise_multiplier": 0.02, "clipping_norm": 40.0, "epsilon": 1e6}

    def limit(**sections: Any) -> np.ndarray:
        seen: list[np.ndarray] = []
        plan = plan_of(120, privacy=private, training={"ema_decay": 0.99}, **sections)
        people = {s: [patient(CURVATURE[s], MINIMUM[s])] for s in SITES}
        train_rounds(
            quadratic_model(plan), arrays(0.0), people, plan,
            lambda _, theta: seen.append(theta["theta"].astype(float)),
        )  # fmt: skip
        return np.mean(seen[40:], axis=0)

    scaffold = np.abs(limit(aggregation={"control_variates": True}) - optimum()).max()
    fedavg = np.abs(limit() - optimum()).max()
    assert scaffold < 0.5 * fedavg


def own_models(plan: FederationPlan, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, np.ndarray]:
    """Every site's own model, and the released mean, at the end of a run."""
    own: dict[str, np.ndarray] = {}
    train_round = module.train_round

    def watched(*args: Any, **options: Any) -> Any:
        trained = train_round(*args, **options)
        own[args[3]] = trained.own["theta"].astype(float)
        return trained

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_round", watched)
        mean = result(plan)
    return own, mean


def joint_minimum(strength: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Of ``sum_k F_k(theta_k) + (lambda/2) ||theta_k - theta_bar||^2``, in closed form."""
    pull = {s: CURVATURE[s] / (CURVATURE[s] + strength) for s in SITES}
    mean = sum(pull[s] * MINIMUM[s] for s in SITES) / sum(pull.values())
    return {s: pull[s] * MINIMUM[s] + (1 - pull[s]) * mean for s in SITES}, mean


@pytest.mark.parametrize("strength", [0.05, 1.0, 5.0])
def test_mr_mtl_finds_the_joint_minimum(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(150, aggregation={"multi_task_lambda": strength})
    own, mean = own_models(plan, monkeypatch)
    expected, centre = joint_minimum(strength)
    np.testing.assert_allclose(mean, centre, atol=2e-3)
    for site in SITES:
        np.testing.assert_allclose(own[site], expected[site], atol=2e-3)


def test_mr_mtl_without_pull_is_every_site_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    own, mean = own_models(plan_of(40, aggregation={"multi_task_lambda": 0.0}), monkeypatch)
    for site in SITES:
        alone = MINIMUM[site] * (1 - (1 - RATE * CURVATURE[site]) ** (40 * STEPS))
        np.testing.assert_allclose(own[site], alone, atol=1e-4)
    np.testing.assert_allclose(mean, np.mean([own[s] for s in SITES], axis=0), atol=1e-6)


def test_mr_mtl_with_a_strong_pull_is_the_common_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The objective's limit: one model for all, at the optimum that FedAvg's objective has."""
    plan = plan_of(200, aggregation={"multi_task_lambda": 15.0})
    own, mean = own_models(plan, monkeypatch)
    spread = max(np.abs(own[s] - mean).max() for s in SITES)
    apart = max(np.abs(MINIMUM[s] - optimum()).max() for s in SITES)
    assert spread < 0.35 * apart
    _, centre = joint_minimum(15.0)
    np.testing.assert_allclose(mean, centre, atol=5e-3)
    assert np.abs(centre - optimum()).max() < 0.25 * apart
