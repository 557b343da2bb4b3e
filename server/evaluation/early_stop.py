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
    if not patience:
        return False
    best, without_improvement = float("-inf"), 0
    for record in records:
        value = _macro_auc(record, plan)
        if value is None:
            continue
        without_improvement = 0 if value > best else without_improvement + 1
        best = max(best, value)
    return without_improvement >= patience


def _macro_auc(record: ReleaseRecord, plan: FederationPlan) -> float | None:
    counts = [NoisedCounts.of(arrays, plan) for _, arrays in sorted(record.arrays.items())]
    return figures(pooled(counts)).macro_auc.value if counts else None
