"""Constants of clinical variables from public or synthetic training rows, for a plan's author."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared_model.clinical.encoding import Value
from shared_model.clinical.section import ClinicalVariable

# Numbers that differ by less than this share of the largest differ by their rounding; and squares
# of much smaller numbers than the second are nought.
_SMALLEST_SPREAD = 1e-12
_SMALLEST_SD = 1e-100


def fit_clinical(rows: Sequence[Mapping[str, Value]]) -> tuple[ClinicalVariable, ...]:
    """Variables with mean and sd, or categories, of the training ``rows`` and of nothing else.

    For public or synthetic data: the constants go into a plan, which everybody reads. Never for a
    hospital's patients: a mean that is computed from them without noise is a release, and would
    steer every later one. Test rows must not be among ``rows``: the scale would know of them.

    Args:
        rows: one mapping a scan; a missing value is absent or None. A variable with any word among
            its values is a category.

    Raises ValueError for a variable with fewer than two different values, or with numbers that
    differ by no more than their rounding: it tells nothing.
    """
    names = sorted({name for row in rows for name in row})
    return tuple(_fit(name, [row.get(name) for row in rows]) for name in names)


def _fit(name: str, values: Sequence[Value]) -> ClinicalVariable:
    known = [value for value in values if value is not None]
    if len(set(known)) < 2:
        raise ValueError(f"{name} has {len(set(known))} different values among the training rows")
    if any(isinstance(value, str) for value in known):
        words = sorted({str(value).strip().casefold() for value in known})
        return ClinicalVariable(name=name, kind="category", categories=tuple(words))
    numbers = np.array(known, np.float64)
    with np.errstate(invalid="ignore"):
        mean, sd = float(numbers.mean()), float(numbers.std(ddof=1))
    if not sd > max(_SMALLEST_SPREAD * np.abs(numbers).max(), _SMALLEST_SD):
        raise ValueError(
            f"{name} has an SD of {sd:g} among the training rows, beside a mean of {mean:g}: its "
            "values differ by no more than their rounding, or are not finite; leave it out"
        )
    return ClinicalVariable(name=name, mean=mean, sd=sd)
