"""Patients by sex, age band, field strength or vendor, and the gap between such groups.

A group with fewer than ``minimum`` patients of any class is not to be shown: its figures would be
noise, and small cells tell about persons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.metrics.arrays import Bools, Floats, Ints
from shared_model.metrics.classification import confusion_matrix, confusion_over, rates

MINIMUM = 20


@dataclass(frozen=True, eq=False)
class Subgroup:
    """Patients with one value of one column.

    Attributes:
        column: such as ``sex``.
        value: such as ``F``, as text.
        patients: ``(N,)`` mask.
        per_class: number of its patients of each class, C of them.
        shown: whether every class has enough patients.
    """

    column: str
    value: str
    patients: Bools
    per_class: tuple[int, ...]
    shown: bool


@dataclass(frozen=True, eq=False)
class EqualisedOdds:
    """Largest difference between groups, by class ``(C,)``, and the largest of all (Hardt 2016)."""

    sensitivity_gaps: Floats
    false_positive_gaps: Floats
    gap: float


def age_bands(age_years: npt.ArrayLike, edges: tuple[float, float] = (70, 80)) -> list[str | None]:
    """Band of each patient: below 70, 70 to 80 with both ends, above 80; None for unknown age."""
    low, high = edges
    names = (f"<{low:g}", f"{low:g}-{high:g}", f">{high:g}")
    return [
        None if not np.isfinite(a) else names[0] if a < low else names[2] if a > high else names[1]
        for a in np.asarray(age_years, dtype=np.float64)
    ]


def subgroups(
    y: Ints,
    classes: int,
    columns: Mapping[str, Sequence[object]],
    *,
    minimum: int = MINIMUM,
    complementary: bool = False,
) -> tuple[Subgroup, ...]:
    """One group for every value of every column ``(N,)``, in the order of the values' text.

    A missing value (None, NaN, empty text) is in no group. With ``complementary`` a column with
    exactly one group set aside (those with a missing value are one) sets the smallest shown group
    aside too, so that none follows as the total minus the others: for tables that leave.
    """
    out: list[Subgroup] = []
    for column, values in columns.items():
        if len(values) != len(y):
            raise ValueError(f"column {column} has {len(values)} values for {len(y)} patients")
        text = np.array(["" if _missing(v) else f"{v}" for v in values], dtype=object)
        groups = []
        for value in sorted(set(text) - {""}):
            mask = np.asarray(text == value, dtype=bool)
            per_class = np.bincount(y[mask], minlength=classes)
            groups.append(
                Subgroup(
                    column, value, mask, tuple(map(int, per_class)), per_class.min() >= minimum
                )
            )
        hidden = sum(not g.shown for g in groups) + bool((text == "").any())
        shown = [g for g in groups if g.shown]
        if complementary and hidden == 1 and shown:
            smallest = min(shown, key=lambda g: sum(g.per_class))
            groups = [
                Subgroup(g.column, g.value, g.patients, g.per_class, g.shown and g is not smallest)
                for g in groups
            ]
        out.extend(groups)
    return tuple(out)


def equalised_odds(y: Ints, p: Floats, masks: Sequence[Bools]) -> EqualisedOdds:
    """Gaps between groups in the sensitivity and the false-positive rate of every class.

    NaN for a class that a group lacks, and with fewer than two groups. The largest of many noisy
    differences is above nought for a fair model too: hold it against :func:`fair_gaps`.
    """
    classes = p.shape[1]
    found = [rates(confusion_matrix(y[m], p[m])) for m in masks]
    if len(found) < 2:
        nothing = np.full(classes, np.nan)
        return EqualisedOdds(nothing, nothing, float("nan"))
    sensitivity = np.ptp(np.stack([r.sensitivity for r in found]), axis=0)
    false_positive = np.ptp(np.stack([1 - r.specificity for r in found]), axis=0)
    return EqualisedOdds(
        sensitivity, false_positive, float(np.maximum(sensitivity, false_positive).max())
    )


def fair_gaps(
    y: Ints, p: Floats, masks: Sequence[Bools], *, draws: int = 1000, seed: int = 0
) -> Floats:
    """``(D,)`` gaps of the same decisions, had lots placed the patients of each class in groups.

    What :func:`equalised_odds` finds by chance where group plays no part: its 95 % quantile is how
    large a gap need not mean anything, and ``(1 + draws that reach the gap) / (D + 1)`` its p value
    (a permutation test within classes). Groups must be disjoint; patients of none take no part.
    """
    member = np.stack([np.asarray(m, dtype=bool) for m in masks])
    if (member.sum(0) > 1).any():
        raise ValueError("groups overlap")
    rng = np.random.default_rng(seed)
    group = np.where(member.any(0), member.argmax(0), -1)
    drawn = np.tile(group, (draws, 1))
    for c in np.unique(y):
        at = np.flatnonzero((y == c) & (group >= 0))
        drawn[:, at] = rng.permuted(drawn[:, at], axis=1)
    found = [rates(confusion_over(y, p, (drawn == g).astype(float))) for g in range(len(masks))]
    if len(found) < 2:
        return np.full(draws, np.nan)
    sensitivity = np.ptp(np.stack([r.sensitivity for r in found]), axis=0)
    false_positive = np.ptp(np.stack([r.specificity for r in found]), axis=0)
    gaps: Floats = np.maximum(sensitivity, false_positive).max(1)
    return gaps


def _missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))
