"""The same patients in the same order for every arm, and the groups that figures are made for."""

from __future__ import annotations

from collections.abc import Mapping

from shared_model.errors import SmrfedError
from shared_model.evaluation.results import SEEN, UNSEEN
from shared_model.evaluation.table import PredictionTable, other_classes


def same_patients(arms: Mapping[str, PredictionTable]) -> dict[str, PredictionTable]:
    """Every arm with its patients in one common order, site by site.

    An arm may leave out whole sites (a hospital's personal model exists at home only); at a site
    that it covers it must have everybody. Raises SMR-E610 without arms, SMR-E614 where classes,
    patients, diagnoses or seen sites differ.
    """
    if not arms:
        raise SmrfedError(
            "SMR-E610",
            "there is no table of predictions to evaluate",
            expected="at least one arm",
            found="none",
            remedy="name the CSV of every arm",
        )
    common: dict[str, PredictionTable] = {}
    holders: dict[str, str] = {}
    labels = next(iter(arms.values())).labels
    out = {}
    for key, table in arms.items():
        if table.labels != labels:
            raise other_classes(labels, table.labels)
        parts = {}
        for site in table.sites:
            own = table.at(site)
            holder = holders.setdefault(site, key)
            try:
                parts[site] = own.in_order_of(common.setdefault(site, own))
            except SmrfedError as error:
                raise SmrfedError(
                    error.code,
                    f"{error.what}: {key!r} and {holder!r} at {site}",
                    expected=error.expected,
                    found=error.found,
                    remedy=error.remedy,
                ) from None
        order = [site for site in common if site in parts]
        out[key] = PredictionTable.join([parts[site] for site in order])
    return out


def groups_of(table: PredictionTable) -> dict[str, PredictionTable]:
    """All seen patients, all unseen ones, and each hospital where there are several of a kind."""
    out = {}
    for key, sites in ((SEEN, table.seen_sites), (UNSEEN, table.unseen_sites)):
        if sites:
            out[key] = table.at(*sites)
        if len(sites) > 1:
            out |= {site: table.at(site) for site in sites}
    return out
