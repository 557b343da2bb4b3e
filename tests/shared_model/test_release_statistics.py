"""What one patient adds to an evaluation or calibration, and when a plan may ask for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from registered_models import tiny_inputs, tiny_model, tiny_plan

from server.evaluation.decision_rule import require_head
from shared_model import registry
from shared_model.errors import SmrfedError
from shared_model.heads import HEAD_BIAS
from shared_model.plan import FederationPlan
from shared_model.registry import model_entry, model_names
from shared_model.releases.schedule import calibration_due, evaluation_due, require_planned
from shared_model.releases.statistics import (
    CONFUSION,
    PROBABILITIES,
    SCORES,
    Statistics,
    nodes,
    norm_bound,
    patient_vectors,
    shapes,
    split,
    weight,
)

KINDS: tuple[Statistics, ...] = ("evaluate", "calibrate")


def plan_of(labels: int = 3, **sections: Any) -> FederationPlan:
    sections.setdefault("privacy", {"mode": "local", "noise_multiplier": 2.0})
    return FederationPlan.parse(
        {
            "name": "releases",
            "task": {"labels": [f"class {k}" for k in range(labels)]},
            "training": {"rounds": 7},
            "federation": {"sites": [{"name": "a", "declared_patients": 50}]},
            **sections,
        }
    )


def logits(classes: int, patients: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (patients, classes), elements=st.floats(-800, 800, allow_nan=False))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@given(data=st.data(), classes=st.integers(2, 6), kind=st.sampled_from(KINDS))
def test_a_patient_moves_all_arrays_together_by_at_most_one(
    data: st.DataObject, classes: int, kind: Statistics
) -> None:
    plan = plan_of(classes)
    p = softmax(data.draw(logits(classes, 5)))
    y = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=5, max_size=5)))
    rows = patient_vectors(kind, y, p, plan)
    assert rows.shape == (5, sum(math.prod(s) for s in shapes(plan, kind).values()))
    assert (np.linalg.norm(rows, axis=1) < 1).all()
    without = patient_vectors(kind, y[:-1], p[:-1], plan)
    # Bit for bit: the other rows do not know that somebody left.
    np.testing.assert_array_equal(rows[:-1], without)
    assert np.linalg.norm(rows.sum(0) - without.sum(0)) < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [[np.nan, 0.5, 0.5], [np.inf, 0, 0], [2.0, -1.0, 0.0], [0, 0, 0]])
def test_a_model_that_fails_on_a_patient_counts_nothing_for_that_patient(
    kind: Statistics, row: list[float]
) -> None:
    p = np.array([[0.2, 0.3, 0.5], row])
    rows = patient_vectors(kind, np.array([0, 1]), p, plan_of())
    assert rows[0].any()
    assert not rows[1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_site_without_patients_releases_like_any_other(kind: Statistics) -> None:
    rows = patient_vectors(kind, np.zeros(0, np.int64), np.zeros((0, 3)), plan_of())
    assert rows.shape == (0, sum(math.prod(s) for s in shapes(plan_of(), kind).values()))


def test_the_sums_are_the_counts() -> None:
    plan = plan_of()
    y = np.array([0, 0, 1, 2])
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])
    flat = patient_vectors("evaluate", y, p, plan).sum(0)
    found = split("evaluate", flat, plan)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        found[CONFUSION] / weight(CONFUSION, 3), [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    )
    scores = found[SCORES] / weight(SCORES, 3)
    # A score is shared between two nodes so that its mean is exact.
    for k in range(3):
        np.testing.assert_allclose(scores[k, 1].sum(), (y == k).sum())
        np.testing.assert_allclose(scores[k, 1] @ nodes(3), p[y == k, k].sum())
        np.testing.assert_allclose(scores[k, 0] @ nodes(3), p[y != k, k].sum())
    flat = patient_vectors("calibrate", y, p, plan).sum(0)
    matrix = split("calibrate", flat, plan)[PROBABILITIES]  # type: ignore[arg-type]
    np.testing.assert_allclose(
        matrix / weight(PROBABILITIES, 3), [p[y == k].sum(0) for k in range(3)]
    )


def test_names_and_shapes_are_the_plans_alone() -> None:
    plan = plan_of(4)
    assert shapes(plan, "evaluate") == {CONFUSION: (4, 4), SCORES: (4, 2, len(nodes(4)))}
    assert shapes(plan, "calibrate") == {PROBABILITIES: (4, 4)}
    assert np.all(np.diff(nodes(4)) > 0)
    assert norm_bound(plan, "a", "calibrate") == 100.0


def test_when_a_plan_looks_at_patients() -> None:
    noised = {"release_every": 3, "release_noise_multiplier": 2.0}
    plan = plan_of(evaluation=noised, calibration={"rule": "prior_free", "noise_multiplier": 3.0})
    assert [n for n in range(10) if evaluation_due(plan, n)] == [3, 6, 7, 9]
    assert [n for n in range(10) if calibration_due(plan, n)] == [7]
    require_planned(plan, "evaluate", 6)
    require_planned(plan, "calibrate", 7)
    require_planned(plan_of(), "train", 1)
    for asked, kind, number in (
        (plan, "evaluate", 4),
        (plan, "calibrate", 6),
        (plan_of(), "evaluate", 7),
        (plan_of(), "calibrate", 7),
    ):
        with pytest.raises(SmrfedError, match="SMR-E370"):
            require_planned(asked, kind, number)


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"evaluation": {"release_every": 2}}, "evaluation.release_noise_multiplier"),
        ({"calibration": {"rule": "prior_free"}}, "calibration.noise_multiplier"),
        ({"evaluation": {"release_noise_multiplier": 1.0}}, "release_every"),
        ({"evaluation": {"early_stop_patience": 2}}, "release_every"),
        ({"calibration": {"noise_multiplier": 1.0}}, "argmax"),
        (
            {
                "privacy": {"mode": "none"},
                "evaluation": {"release_every": 2, "release_noise_multiplier": 1.0},
            },
            "evaluation.release_noise_multiplier",
        ),
    ],
)
def test_a_plan_whose_releases_do_not_add_up_is_refused(
    sections: dict[str, Any], field: str
) -> None:
    with pytest.raises(SmrfedError, match="SMR-E102") as caught:
        plan_of(**sections)
    assert field in str(caught.value)


def test_without_privacy_the_same_releases_need_no_noise() -> None:
    plan = plan_of(
        privacy={"mode": "none"},
        evaluation={"release_every": 2, "early_stop_patience": 3},
        calibration={"rule": "prior_free"},
    )
    assert evaluation_due(plan, 2)


CLASSIFIERS = [n for n in model_names() if model_entry(n).task == "classification"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_what_is_added_to_the_class_biases_is_added_to_the_logits(name: str) -> None:
    plan = tiny_plan(name, calibration={"rule": "prior_free", "noise_multiplier": 3.0})
    model = tiny_model(plan)
    if name not in HEAD_BIAS:  # of another package: the coordinator says so before it releases
        with pytest.raises(SmrfedError, match="SMR-E570"):
            require_head(plan, model.shared_arrays())
        return
    bias = dict(model.model.named_parameters())[require_head(plan, model.shared_arrays())]
    assert bias.shape == (3,)
    model.model.eval()
    x = tiny_inputs(model, 2)
    with torch.no_grad():
        before = model.output(x).logits
        bias += torch.tensor([0.5, -1.0, 0.25])
        after = model.output(x).logits
    torch.testing.assert_close(after - before, torch.tensor([[0.5, -1.0, 0.25]] * 2))


def test_biases_are_known_of_every_classifier_of_ours_and_of_nothing_else() -> None:
    assert set(HEAD_BIAS) <= set(CLASSIFIERS)
    assert {n for n in CLASSIFIERS if n in registry._OWN} == set(HEAD_BIAS)
