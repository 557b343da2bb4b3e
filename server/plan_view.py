"""What a plan promises and what each of its releases costs, before anybody accepts it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from rich.table import Table

from server.evaluation.counts import NoisedCounts
from server.evaluation.decision_rule import patients_needed
from server.evaluation.figures import figures
from shared_model.aggregation.wording import aggregation_in_words
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.plan_cost import TOUCHES_TEST, plan_epsilon, planned_releases
from shared_model.privacy.summed_noise import grid_delta
from shared_model.privacy.trust import trust_in_words
from shared_model.releases.statistics import PROBABILITIES, shapes, weight

_MEANING = {
    "train": "updates of the shared parameters",
    "calibrate": "mean predictions by class; for unseen sites also moments of scores",
    "evaluate": "confusion matrix and score histograms",
    "moments": "class-conditional moments of embeddings, to align the sites",
}
_SUMMED = "a part of one masked sum, of which nobody sees a part"


def release_costs(plan: FederationPlan) -> list[dict[str, Any]]:
    """One entry per purpose: whose patients, how often, which mechanism, epsilon of it alone.

    ``epsilon`` is ``None`` without noise, in privacy mode ``none``.
    """
    return [
        {
            "purpose": planned.purpose,
            "what": _SUMMED
            if planned.purpose == "train" and plan.privacy.summed
            else _MEANING[planned.purpose],
            "patients": "test" if planned.purpose in TOUCHES_TEST else "training",
            "count": planned.count,
            "steps": planned.use.steps,
            "noise_multiplier": planned.use.noise_multiplier,
            "sampling_rate": planned.use.sampling_rate,
            "epsilon": finite(epsilon([planned.total], plan.privacy.delta)),
        }
        for planned in planned_releases(plan)
    ]


def worst_patient(plan: FederationPlan) -> float | None:
    """Epsilon of the whole plan for the worst patient; none in privacy mode ``none``."""
    return None if plan.privacy.mode == "none" else finite(plan_epsilon(plan))


def costs_table(plan: FederationPlan) -> Table:
    """:func:`release_costs` as a table."""
    table = Table("what leaves", "patients", "times", "noise", "epsilon alone")
    for cost in release_costs(plan):
        steps = f" x {cost['steps']} steps" if cost["steps"] > 1 else ""
        table.add_row(
            f"{cost['purpose']}: {cost['what']}",
            cost["patients"],
            f"{cost['count']}{steps}",
            f"{cost['noise_multiplier']:g}",
            "no guarantee" if cost["epsilon"] is None else f"{cost['epsilon']:.3f}",
        )
    return table


def expectations(plan: FederationPlan) -> dict[str, str]:
    """What the auxiliary releases can show at the declared numbers of patients, in words.

    As if all classes were equally frequent and seven of ten patients were recognised.
    """
    c, sites = len(plan.task.labels), plan.federation.sites
    rows = {"aggregation": aggregation_in_words(plan)}
    if plan.privacy.mode != "none":
        rows["trust"] = trust_in_words(plan)
    if plan.privacy.summed:
        added = grid_delta(plan, plan_epsilon(plan))
        rows["integer grid"] = f"adds {added:.1g} to delta, for the largest models"
    if plan.evaluation.release_every:
        ratio = plan.evaluation.test_fraction / (1 - plan.evaluation.test_fraction)
        numbers = [site.declared_patients * ratio for site in sites]
        one = _interval(min(numbers), 1, plan)
        rows["evaluation"] = (
            f"balanced accuracy within {_interval(sum(numbers), len(sites), plan):.2f} over all "
            f"sites, {one:.2f} at the smallest (half of a 95 % interval)"
        )
    if plan.calibration.rule == "prior_free":
        scale = weight(PROBABILITIES, c, unseen_sites=plan.calibration.unseen_sites)
        noise = plan.calibration.noise_multiplier * math.sqrt(len(sites)) / scale
        needed, there = patients_needed(c, noise), sum(s.declared_patients for s in sites) / c
        rows["calibration"] = f"needs {needed:.0f} training patients of each class" + (
            f"; there are about {there:.0f}" if there >= 2 * needed
            else f", better twice as many; about {there:.0f} are TOO FEW: more patients, less noise"
        )  # fmt: skip
    return rows


def _interval(patients: float, sites: int, plan: FederationPlan) -> float:
    """Half of the 95 % interval of a balanced accuracy of 0.7, over so many patients and sites."""
    empty = {name: np.zeros(shape) for name, shape in shapes(plan, "evaluate").items()}
    one = NoisedCounts.of(empty, plan)
    c = len(one.confusion)
    share = np.where(np.eye(c, dtype=bool), 0.7, 0.3 / (c - 1))
    noise = math.sqrt(sites)
    counts = replace(
        one,
        confusion=patients / c * share,
        confusion_sd=noise * one.confusion_sd,
        scores_sd=noise * one.scores_sd,
    )
    found = figures(counts).balanced_accuracy
    return (found.high - found.low) / 2


def finite(value: float) -> float | None:
    """``None`` for an infinite epsilon, which JSON cannot hold."""
    return value if math.isfinite(value) else None
