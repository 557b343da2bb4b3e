"""From predictions of all arms to the report's scores and paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared_model.metrics import (
    balanced_accuracy,
    balanced_accuracy_over,
    brier_score,
    checked,
    confusion_matrix,
    counts_of,
    macro_auc,
    stratified_draws,
)
from shared_model.metrics.calibration import ece
from simulations.arms.arm import ArmResult
from simulations.evaluation.predictions import Predictions, by_model, compare
from simulations.report.results import SEEN, UNSEEN, Arm, Comparison, Score


def score_arm(
    arm: ArmResult, members: Sequence[str], held_out: Sequence[str], draws: int, seed: int
) -> Arm:
    """Scores of an arm at every site, at the seen sites together and at the unseen ones together.

    A group whose test patients lack a class has no balanced accuracy and is left out.
    """
    groups: dict[str, list[str]] = {name: [name] for name in (*members, *held_out)}
    groups[SEEN], groups[UNSEEN] = list(members), list(held_out)
    scores = {}
    for group, names in groups.items():
        if names and all(name in arm.predictions for name in names):
            found = score(Predictions.join([arm.predictions[n] for n in names]), draws, seed)
            if found is not None:
                scores[group] = found
    return arm.record(scores)


def score(predictions: Predictions, draws: int, seed: int) -> Score | None:
    """Balanced accuracy with its 95 % interval from a class-stratified bootstrap of patients.

    Beside it the AUC, and how far the probabilities can be believed (ECE, Brier).
    The predictions of several models for the same patients may follow one another: the score is
    then their mean, and a resampled patient brings all of them. ``None`` without every class.
    """
    models = by_model(predictions)
    y = models[0].label
    values = [balanced_accuracy(*checked(y, m.probability)) for m in models]
    if not np.isfinite(values).all():
        return None
    counts = counts_of(stratified_draws(y, draws, seed))
    resampled = np.mean([balanced_accuracy_over(y, m.probability, counts) for m in models], axis=0)
    low, high = np.quantile(resampled, [0.025, 0.975])
    auc = float(np.mean([macro_auc(y, m.probability) for m in models]))
    confusion = sum(confusion_matrix(y, m.probability) for m in models)
    return Score(
        balanced_accuracy=float(np.mean(values)),
        low=float(low),
        high=float(high),
        macro_auc=auc if np.isfinite(auc) else None,
        n=len(y),
        confusion=tuple(tuple(int(count) for count in row) for row in np.asarray(confusion)),
        ece=float(np.mean([ece(y, m.probability) for m in models])),
        brier=float(np.mean([brier_score(y, m.probability) for m in models])),
    )


def comparisons(
    arms: Mapping[str, ArmResult],
    headline: str,
    references: Sequence[str],
    members: Sequence[str],
    held_out: Sequence[str],
    draws: int,
    seed: int,
) -> tuple[Comparison, ...]:
    """The headline arm minus each reference, wherever both saw the same patients once."""
    groups: dict[str, list[str]] = {name: [name] for name in members}
    groups[SEEN], groups[UNSEEN] = list(members), list(held_out)
    out = []
    for reference in references:
        for where, names in groups.items():
            pair = []
            for key in (headline, reference):
                available = arms[key].predictions
                if names and all(name in available for name in names):
                    pair.append(Predictions.join([available[name] for name in names]))
            if len(pair) == 2 and pair[0].patients == pair[1].patients:
                found = compare(headline, reference, where, pair[0], pair[1], draws, seed)
                if found is not None:
                    out.append(found)
    return tuple(out)
