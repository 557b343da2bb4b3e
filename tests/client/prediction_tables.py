"""Tables of drawn predictions: four hospitals that took part and one that did not."""

from __future__ import annotations

import numpy as np

from shared_model.evaluation.table import PredictionTable

LABELS = ("CN", "MCI", "AD")


def drawn_table(
    strength: float, seed: int = 1, patients: int = 300, cohort: int = 0
) -> PredictionTable:
    """The same patients for every seed; ``strength`` is how much the true logit is raised."""
    who = np.random.default_rng(cohort)
    y = who.integers(0, 3, patients)
    site = who.integers(0, 5, patients)
    sex, age, course = (
        who.integers(0, 2, patients),
        who.normal(75, 8, patients),
        who.random(patients),
    )
    logits = np.random.default_rng(seed).normal(size=(patients, 3))
    logits[np.arange(patients), y] += strength
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    names = tuple(f"site-{'abcde'[s]}" for s in site)
    return PredictionTable(
        labels=LABELS,
        patient=tuple(f"{name}/p{i}" for i, name in enumerate(names)),
        site=names,
        label=y,
        probability=p,
        seen=site != 4,
        sex=tuple("FM"[s] for s in sex),
        age=age.round(1),
        field_strength_t=np.where(site < 2, 1.5, 3.0),
        vendor=tuple(("Siemens", "GE", None)[s % 3] for s in site),
        progression=tuple(
            ("pMCI", "sMCI", "uMCI")[int(c * 3)] if k == 1 else None
            for c, k in zip(course, y, strict=True)
        ),
        scans=who.integers(1, 3, patients),
    )


def drawn_arms() -> dict[str, PredictionTable]:
    alone = drawn_table(0.7, 2)
    return {
        "federated": drawn_table(1.6, 1),
        "alone": alone.rows(alone.seen),
        "pooled": drawn_table(1.7, 3),
    }
