"""When the rounds end early: on noised figures only, so that the decision costs no privacy."""

from __future__ import annotations

from collections.abc import Sequence

from server.evaluation.counts import NoisedCounts, pooled
from server.evaluation.figures import figures
from server.evaluation.records import ReleaseRecord
from shared_model.plan import FederationPlan


def ends_early(records: Sequence[ReleaseRecord], plan: FederationPlan) -> bool:
    """Whether the last ``early_stop_patience`` evaluations brought no better figure.

    The figure is the macro AUC over all sites together: it does not depend on the class that a
    noised model leans to. An evaluation in which the noise hides it says nothing, and counts
    neither way. Equal records give equal decisions, on every machine and after every restart.
    """
    patience = plan.evaluation.early_stop_patience
    return patience > 0 and _best_and_since(records, plan)[1] >= patience


def best_evaluation(records: Sequence[ReleaseRecord], plan: FederationPlan) -> ReleaseRecord | None:
    """The first evaluation with the highest figure of :func:`ends_early`; None where none has one.

    Chosen among noised figures, it looks better than it is: what is said of the released model
    comes from an evaluation of its own.
    """
    return _best_and_since(records, plan)[0]


def early_end(plan: FederationPlan, rounds_completed: int) -> str:
    """What to tell of a finished run that did not need all its rounds; empty of one that did."""
    if rounds_completed >= plan.training.rounds:
        return ""
    best = plan.evaluation.early_stop_release == "best"
    told = "ended early: the released figures no longer improved"
    return told + (", and the best of them is released" if best else "")


def _best_and_since(
    records: Sequence[ReleaseRecord], plan: FederationPlan
) -> tuple[ReleaseRecord | None, int]:
    """The best evaluation, and how many with a figure came after it."""
    best, highest, since = None, float("-inf"), 0
    for record in records:
        value = _macro_auc(record, plan)
        if value is None:
            continue
        if value > highest:
            best, highest, since = record, value, 0
        else:
            since += 1
    return best, since


def _macro_auc(record: ReleaseRecord, plan: FederationPlan) -> float | None:
    counts = [NoisedCounts.of(arrays, plan) for _, arrays in sorted(record.arrays.items())]
    return figures(pooled(counts)).macro_auc.value if counts else None
