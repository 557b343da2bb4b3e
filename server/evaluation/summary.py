"""The figures of one evaluation: per site, of all sites together, and of the worst site."""

from __future__ import annotations

from dataclasses import dataclass

from server.evaluation.counts import NoisedCounts, pooled
from server.evaluation.figures import Figures, figures
from server.evaluation.intervals import Estimate, worst_of
from server.evaluation.records import ReleaseRecord
from shared_model.plan import FederationPlan

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Figures by site and together; none together when nobody answered.

    ``worst_balanced_accuracy`` and ``worst_macro_auc`` are minima over the sites that answered;
    their intervals come from ones that hold for all sites at once (Bonferroni).
    """

    sites: dict[str, Figures]
    together: Figures | None
    worst_balanced_accuracy: Estimate | None
    worst_macro_auc: Estimate | None


def summarise(record: ReleaseRecord, plan: FederationPlan) -> Summary:
    """The figures of an ``evaluate`` record."""
    counts = {site: NoisedCounts.of(a, plan) for site, a in sorted(record.arrays.items())}
    if not counts:
        return Summary({}, None, None, None)
    each = 1 - (1 - CONFIDENCE) / len(counts)
    at_once = [figures(site, each) for site in counts.values()]
    return Summary(
        {site: figures(count, CONFIDENCE) for site, count in counts.items()},
        figures(pooled(list(counts.values())), CONFIDENCE),
        worst_of([site.balanced_accuracy for site in at_once]),
        worst_of([site.macro_auc for site in at_once]),
    )
