"""What is told of the headline arm alone: subgroups, case mix, curves, and conversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared_model.evaluation.figures import Scored, as_estimate, never_certain
from shared_model.evaluation.results import (
    Conversion,
    Curve,
    Estimate,
    GroupCurves,
    OddsGap,
    PrevalenceShift,
    Subgroup,
)
from shared_model.evaluation.table import PredictionTable
from shared_model.metrics.arrays import Bools, Floats, everybody
from shared_model.metrics.bootstrap import draw_counts, percentile_interval
from shared_model.metrics.calibration import BINS, reliability_curve
from shared_model.metrics.classification import confusion_over
from shared_model.metrics.conversion import conversion, conversion_over
from shared_model.metrics.prevalence import adjusted_rates
from shared_model.metrics.selective import coverage_risk
from shared_model.metrics.subgroups import age_bands, equalised_odds, subgroups

#: p(AD) at and above which progression is foretold: fixed before any patient is seen.
CONVERSION_THRESHOLD = 0.5
_SHOWN = ("balanced_accuracy", "macro_auc", "ece")
_SHOWN_PER_CLASS = ("sensitivity", "specificity")
_CURVE_POINTS = 200
# A bin of fewer patients shows their luck rather than the model.
_PATIENTS_PER_BIN, _FEWEST_BINS = 10, 3


def columns_of(table: PredictionTable) -> dict[str, Sequence[object]]:
    """The columns that subgroups are made of, as text; None where unknown."""
    return {
        "sex": table.sex,
        "age": age_bands(table.age),
        "field strength": [None if np.isnan(t) else f"{t:g} T" for t in table.field_strength_t],
        "vendor": table.vendor,
    }


def subgroup_figures(
    table: PredictionTable, where: str, draws: int, seed: int, confidence: float, *, open_data: bool
) -> tuple[tuple[Subgroup, ...], tuple[OddsGap, ...]]:
    """Figures of every subgroup with 20 patients of every class, and the gaps between them.

    Unless the data are open, a column that would hide exactly one group hides a second one, so that
    nobody computes it as the rest; and a hidden group's size is not told.
    """
    columns = columns_of(table)
    found = subgroups(table.label, len(table.labels), columns, complementary=not open_data)
    p = table.probability / table.probability.sum(1, keepdims=True)
    out, gaps = [], []
    for one in found:
        if not one.shown:
            size = sum(one.per_class) if open_data else None
            out.append(
                Subgroup(
                    column=one.column, value=one.value, where=where, patients=size, suppressed=True
                )
            )
            continue
        scored = Scored.of(table.rows(one.patients), draws, seed)
        out.append(
            Subgroup(
                column=one.column,
                value=one.value,
                where=where,
                patients=sum(one.per_class),
                suppressed=False,
                metrics={name: scored.interval(name, confidence) for name in _SHOWN},
                per_class={
                    name: tuple(
                        scored.interval(f"{name}[{label}]", confidence) for label in table.labels
                    )
                    for name in _SHOWN_PER_CLASS
                },
            )
        )
    for column in columns:
        masks = [one.patients for one in found if one.column == column and one.shown]
        if len(masks) > 1:
            gap = equalised_odds(table.label, p, masks).gap
            gaps.append(OddsGap(column=column, where=where, gap=gap if np.isfinite(gap) else None))
    return tuple(out), tuple(gaps)


def prevalence_shift(
    group: Scored, where: str, prevalences: Mapping[str, Sequence[float]], confidence: float
) -> tuple[PrevalenceShift, ...]:
    """Predictive values and accuracy had the classes other shares, sensitivities unchanged."""
    once = confusion_over(group.y, group.p, everybody(len(group.y)))
    drawn = confusion_over(group.y, group.p, group.counts)
    out = []
    for name, shares in prevalences.items():
        now, then = adjusted_rates(once, shares), adjusted_rates(drawn, shares)

        def by_class(value: Floats, draws: Floats) -> tuple[Estimate, ...]:
            return tuple(
                as_estimate(percentile_interval(float(value[0, c]), draws[:, c], confidence))
                for c in range(value.shape[1])
            )

        out.append(
            PrevalenceShift(
                name=name,
                where=where,
                prevalence=tuple(float(s) for s in shares),
                accuracy=Estimate.of(float(now.accuracy[0])).value,
                ppv=by_class(now.ppv, then.ppv),
                npv=by_class(now.npv, then.npv),
            )
        )
    return tuple(out)


def group_curves(
    group: Scored, where: str, labels: Sequence[str], confidence: float, *, open_data: bool
) -> GroupCurves:
    """Reliability, ROC and coverage-risk; of real patients the steps of the ROC are not kept.

    A step of an ROC curve is one patient. Where data are not open, a curve is read off at 21 places
    instead.
    """
    curves, rocs = [], []
    count = min(BINS, max(_FEWEST_BINS, len(group.y) // _PATIENTS_PER_BIN))
    for c, label in enumerate(labels):
        bins = reliability_curve(group.y, group.p, c, count)
        curves.append(_curve(label, bins.predicted, bins.observed))
        rocs.append(_roc(label, group.y == c, group.p[:, c], open_data=open_data))
    risk = coverage_risk(group.y, group.p)
    return GroupCurves(
        where=where,
        reliability=tuple(curves),
        roc=tuple(rocs),
        coverage_risk=_curve("risk", risk.coverage, risk.risk),
        area_under_risk=group.interval("aurc", confidence),
        referred_at_npv=group.interval("referral_rate_at_95_npv", confidence),
    )


def _roc(name: str, mask: Bools, score: Floats, *, open_data: bool) -> Curve:
    if not mask.any() or mask.all():
        return Curve(name=name, x=(), y=())
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    true = np.append(0, np.cumsum(mask[order])[last]) / mask.sum()
    false = np.append(0, np.cumsum(~mask[order])[last]) / (~mask).sum()
    if not open_data:
        x = np.linspace(0, 1, 21)
        return _curve(name, x, np.interp(x, false, true))
    return _curve(name, false, true)


def _curve(name: str, x: Floats, y: Floats) -> Curve:
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _CURVE_POINTS)).round().astype(int))
    return Curve(
        name=name,
        x=tuple(round(float(v), 6) for v in x[keep]),
        y=tuple(round(float(v), 6) for v in y[keep]),
    )


def conversion_figures(
    table: PredictionTable, draws: int, seed: int, confidence: float
) -> Conversion | None:
    """How p(AD) of patients with MCI foretells AD within 36 months; None without any known course.

    Sensitivity and specificity at p(AD) >= 0.5, a threshold nobody fitted.
    """
    if not {"MCI", "AD"} <= set(table.labels):
        return None
    mci = table.label == table.labels.index("MCI")
    course = np.array([value or "" for value in table.progression])
    known = mci & np.isin(course, ("pMCI", "sMCI"))
    unknown = int((mci & ~known).sum())
    if not known.any():
        return None
    chosen = table.rows(known)
    progressive = course[known] == "pMCI"
    risk = chosen.probability[:, table.labels.index("AD")]
    found = conversion(progressive, risk, CONVERSION_THRESHOLD)
    counts = draw_counts(progressive.astype(np.int64), list(chosen.site), draws=draws, seed=seed)
    drawn = conversion_over(progressive, risk, counts, CONVERSION_THRESHOLD)

    def interval(name: str, value: float) -> Estimate:
        return as_estimate(percentile_interval(value, drawn[name], confidence))

    return Conversion(
        progressed=found.progressive,
        stable=found.stable,
        unknown=unknown,
        auc=interval("auc", found.auc.estimate),
        threshold=CONVERSION_THRESHOLD,
        sensitivity=never_certain(
            interval("sensitivity", found.sensitivity), found.progressive, confidence
        ),
        specificity=never_certain(
            interval("specificity", found.specificity), found.stable, confidence
        ),
    )
