"""Who the test patients are, hospital by hospital, and that nobody of them was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from shared_model.errors import SmrfedError
from shared_model.evaluation.results import Overlap, SitePatients
from shared_model.evaluation.table import PredictionTable

UNKNOWN = "unknown"
_SHOWN = 5


def site_patients(
    tables: Iterable[PredictionTable], trained_on: Collection[str] | None = None
) -> tuple[SitePatients, ...]:
    """One record per hospital that any of the tables has; seen ones first.

    Names of training patients are ``site/patient``, after whatever stands before the site.
    """
    out: dict[str, SitePatients] = {}
    # An empty list only says that nobody of these hospitals was trained on.
    trained = Counter(name.split("/")[-2] for name in trained_on or () if "/" in name)
    for table in tables:
        for site in table.sites:
            if site not in out:
                number = None if not trained_on else trained[site]
                out[site] = _site(site, table.at(site), number)
    return tuple(sorted(out.values(), key=lambda one: (not one.seen, one.site)))


def _site(site: str, table: PredictionTable, trained_on: int | None) -> SitePatients:
    ages = table.age[np.isfinite(table.age)]
    strengths = [None if np.isnan(t) else f"{t:g} T" for t in table.field_strength_t]
    return SitePatients(
        site=site,
        seen=bool(table.seen[0]),
        patients=len(table),
        scans=int(table.scans.sum()),
        class_patients=tuple(int(n) for n in np.bincount(table.label, minlength=len(table.labels))),
        sex=_counted(table.sex),
        age_mean=float(ages.mean()) if ages.size else None,
        age_sd=float(ages.std(ddof=1)) if ages.size > 1 else None,
        age_known=int(ages.size),
        field_strength_t=_counted(strengths),
        vendor=_counted(table.vendor),
        progression=dict(sorted(Counter(p for p in table.progression if p).items())),
        trained_on=trained_on,
    )


def _counted(values: Sequence[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(value or UNKNOWN for value in values).items()))


def no_overlap(tables: Iterable[PredictionTable], trained_on: Collection[str] | None) -> Overlap:
    """That no test patient's identifier is among the training patients' ones.

    Raises SMR-E615 for somebody who is: every figure would be too good.
    """
    if trained_on is None:
        return Overlap(
            checked=False,
            trained_on=None,
            how="not checked here: no identifiers of training patients were given",
        )
    tested = {patient for table in tables for patient in table.patient}
    both = sorted(tested & set(trained_on))
    if both:
        more = f" and {len(both) - _SHOWN} more" if len(both) > _SHOWN else ""
        raise SmrfedError(
            "SMR-E615",
            "patients were trained on and tested on",
            expected="no common identifier",
            found=", ".join(both[:_SHOWN]) + more,
            remedy="split by patient before training, and evaluate on the test side only",
        )
    if not trained_on:
        return Overlap(checked=True, trained_on=0, how="nobody of these hospitals was trained on")
    return Overlap(
        checked=True,
        trained_on=len(set(trained_on)),
        how=f"none of {len(tested)} test patients is among {len(set(trained_on))} training "
        "patients, by identifier",
    )
