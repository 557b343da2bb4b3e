"""The groups of test patients in the order that tables and figures show them, with their titles."""

from __future__ import annotations

from dataclasses import dataclass

from simulations.report.results import SEEN, UNSEEN, FederationReport


@dataclass(frozen=True)
class Group:
    """One group of test patients.

    Attributes:
        key: site name, 'seen' or 'unseen', as in the scores.
        title: for tables and axes.
        is_summary: more than one hospital.
        is_unseen: took no part in training.
    """

    key: str
    title: str
    is_summary: bool
    is_unseen: bool


def shown_groups(report: FederationReport) -> tuple[Group, ...]:
    """Summaries first, then the hospitals; a single unseen hospital is shown once.

    Groups without any score or comparison are left out.
    """
    filled = {key for arm in report.arms for key in arm.scores}
    filled |= {comparison.where for comparison in report.comparisons}
    unseen = [site.name for site in report.cohort if site.held_out]
    one = len(unseen) == 1 and UNSEEN in filled
    groups = [
        Group(SEEN, "all that took part", True, False),
        Group(UNSEEN, f"{unseen[0]} (unseen)" if one else "all unseen", not one, True),
    ]
    for site in report.cohort:
        if not (one and site.held_out):
            title = f"{site.name} (unseen)" if site.held_out else site.name
            groups.append(Group(site.name, title, False, site.held_out))
    return tuple(group for group in groups if group.key in filled)
