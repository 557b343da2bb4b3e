"""One arm against the others: paired differences on the same draws, corrected for their number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shared_model.evaluation.figures import Scored, as_estimate
from shared_model.evaluation.results import SEEN, UNSEEN, AcrossSites, PairedDifference, SiteSpread
from shared_model.metrics.bootstrap import percentile_interval
from shared_model.metrics.figures import HIGHER_IS_BETTER
from shared_model.metrics.tests import holm, paired_bootstrap_p, paired_t, wilcoxon

#: What is compared: discrimination first; the first one is the primary figure.
COMPARED = ("balanced_accuracy", "macro_auc", "negative_log_likelihood", "brier_score", "ece")

Groups = Mapping[str, Scored]


def paired_differences(
    headline: str, arms: Mapping[str, Groups], confidence: float
) -> tuple[PairedDifference, ...]:
    """Headline minus every other arm, in every group where both have the same patients.

    Holm's families, each for one metric: all references over the sums (seen, unseen); and, for
    each reference, all hospitals. Within a family the chance of any false alarm is at most 5 %.
    """
    found: list[PairedDifference] = []
    for metric in COMPARED:
        for reference in (key for key in arms if key != headline):
            for where, ours in arms[headline].items():
                theirs = arms[reference].get(where)
                # A sum over other hospitals is another question, however alike it is called.
                if theirs is not None and theirs.patients == ours.patients:
                    found.append(_one(metric, where, headline, reference, ours, theirs, confidence))
    return _corrected(found, _family)


def _one(
    metric: str,
    where: str,
    arm: str,
    reference: str,
    ours: Scored,
    theirs: Scored,
    confidence: float,
) -> PairedDifference:
    drawn = ours.drawn[metric] - theirs.drawn[metric]
    estimate = ours.estimate[metric] - theirs.estimate[metric]
    interval = as_estimate(percentile_interval(estimate, drawn, confidence))
    p = paired_bootstrap_p(drawn) if interval.low is not None else float("nan")
    return PairedDifference(
        metric=metric,
        where=where,
        arm=arm,
        reference=reference,
        patients=len(ours.y),
        difference=interval,
        p=p if np.isfinite(p) else None,
        p_holm=None,
    )


def _family(one: PairedDifference) -> tuple[str, ...]:
    return (one.metric,) if one.where in (SEEN, UNSEEN) else (one.metric, one.reference)


def _corrected(
    found: Sequence[PairedDifference], family: Callable[[PairedDifference], tuple[str, ...]]
) -> tuple[PairedDifference, ...]:
    adjusted: dict[int, float] = {}
    for name in {family(one) for one in found}:
        members = [i for i, one in enumerate(found) if family(one) == name]
        values = holm([np.nan if (p := found[i].p) is None else p for i in members])
        adjusted |= dict(zip(members, values.tolist(), strict=True))
    return tuple(
        one.model_copy(update={"p_holm": adjusted[i] if np.isfinite(adjusted[i]) else None})
        for i, one in enumerate(found)
    )


def across_sites(differences: Sequence[PairedDifference]) -> tuple[AcrossSites, ...]:
    """Tests of a difference over hospitals, one value each; patients are not the unit here.

    With K hospitals Wilcoxon's p is never below 2 / 2^K: five cannot reach 0.05.
    """
    out = []
    families = {(d.metric, d.reference): None for d in differences if d.where not in (SEEN, UNSEEN)}
    for metric, reference in families:
        values = [
            d.difference.value
            for d in differences
            if (d.metric, d.reference) == (metric, reference)
            and d.where not in (SEEN, UNSEEN)
            and d.difference.value is not None
        ]
        tests = wilcoxon(values).p_value, paired_t(values).p_value
        out.append(
            AcrossSites(
                metric=metric,
                reference=reference,
                sites=len(values),
                mean=float(np.mean(values)) if values else None,
                wilcoxon_p=tests[0] if np.isfinite(tests[0]) else None,
                paired_t_p=tests[1] if np.isfinite(tests[1]) else None,
            )
        )
    return tuple(out)


def spread(groups: Groups, sites: Mapping[str, Sequence[str]]) -> tuple[SiteSpread, ...]:
    """Mean, worst hospital, gap and SD of one arm's figures, over seen and over unseen hospitals.

    ``sites`` names the hospitals of a kind; a single one stands in the groups under the kind.
    """
    out = []
    for metric in COMPARED:
        for where in (SEEN, UNSEEN):
            values = {}
            for site in sites.get(where, ()):
                group = groups.get(where if len(sites[where]) == 1 else site)
                if group is not None and np.isfinite(group.estimate[metric]):
                    values[site] = group.estimate[metric]
            if where not in groups:
                continue
            up = HIGHER_IS_BETTER[metric]
            worst = (min if up else max)(values, key=lambda s: values[s]) if values else None
            numbers = np.array(list(values.values()))
            out.append(
                SiteSpread(
                    metric=metric,
                    where=where,
                    sites=len(values),
                    mean=float(numbers.mean()) if values else None,
                    worst=None if worst is None else values[worst],
                    worst_site=worst,
                    gap=float(np.ptp(numbers)) if len(values) > 1 else None,
                    sd=float(numbers.std(ddof=1)) if len(values) > 1 else None,
                )
            )
    return tuple(out)
