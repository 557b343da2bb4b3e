"""Predictions per patient, and the paired comparison of two arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.metrics import (
    balanced_accuracy_over,
    paired_difference,
    stratified_draws,
)
from simulations.report.results import Comparison

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of N test patients at one or several sites.

    Attributes:
        patients: N ids, unique over all sites.
        label: ``(N,)`` true class.
        probability: ``(N, C)``, rows summing to one.
    """

    patients: tuple[str, ...]
    label: Ints
    probability: Floats

    @staticmethod
    def join(parts: Sequence[Predictions]) -> Predictions:
        """The patients of several sites, one after another."""
        return Predictions(
            tuple(patient for part in parts for patient in part.patients),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.probability for part in parts]),
        )


def by_model(predictions: Predictions) -> list[Predictions]:
    """Predictions of several models for the same patients, one after another, taken apart."""
    distinct = len(set(predictions.patients))
    return [
        Predictions(
            predictions.patients[start : start + distinct],
            predictions.label[start : start + distinct],
            predictions.probability[start : start + distinct],
        )
        for start in range(0, len(predictions.patients), distinct)
    ]


def compare(
    arm: str,
    reference: str,
    where: str,
    ours: Predictions,
    theirs: Predictions,
    draws: int,
    seed: int,
) -> Comparison | None:
    """Paired difference in balanced accuracy, on the same patients and the same draws.

    ``None`` where the patients lack a class, so that there is no balanced accuracy.
    """
    if ours.patients != theirs.patients:
        raise ValueError(f"{arm} and {reference} were not evaluated on the same patients")
    y = ours.label
    interval = paired_difference(
        balanced_accuracy_over,
        y,
        ours.probability,
        theirs.probability,
        stratified_draws(y, draws, seed),
    )
    if not np.isfinite([interval.estimate, interval.low, interval.high]).all():
        return None
    return Comparison(
        arm=arm,
        reference=reference,
        where=where,
        difference=interval.estimate,
        low=interval.low,
        high=interval.high,
        n=len(y),
    )
