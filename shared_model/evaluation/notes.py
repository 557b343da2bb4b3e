"""What an evaluation does not hold, said instead of left out."""

from __future__ import annotations

from collections.abc import Iterator

from shared_model.evaluation.figures import INDICATIVE_BELOW
from shared_model.evaluation.results import SEEN, UNSEEN, EvaluationDocument

# With n patients in a stratum the bootstrap's variance is (n - 1) / n of what it should be.
_THIN = 10


def notes_on(document: EvaluationDocument) -> tuple[str, ...]:
    """One sentence for everything that is missing or weak, and why."""
    return tuple(_notes(document))


def _notes(document: EvaluationDocument) -> Iterator[str]:
    headline = document.arm(document.headline)
    weak = [
        document.group_title(where)
        for where in document.groups
        if where in headline.groups and headline.groups[where].indicative
    ]
    if weak:
        yield (
            f"Indicative only, because a class has fewer than {INDICATIVE_BELOW} patients: "
            f"{', '.join(weak)}."
        )
    thin = [
        site.site for site in document.patients if 0 < min(site.class_patients, default=0) < _THIN
    ]
    if thin:
        yield (
            f"Fewer than {_THIN} patients of a class at {', '.join(thin)}: draws inside a hospital "
            "and class vary too little there, so intervals are somewhat too narrow."
        )
    if not document.overlap.checked:
        yield f"Whether test patients were trained on was {document.overlap.how}."
    for arm in document.arms:
        for where in (SEEN, UNSEEN):
            ours, theirs = headline.groups.get(where), arm.groups.get(where)
            if ours and theirs and ours.patients != theirs.patients:
                yield (
                    f"“{arm.title}” covers other hospitals of {document.group_title(where)} than "
                    "the headline: over that sum the two are not compared."
                )
    family = sum(
        one.metric == "balanced_accuracy" and one.where in (SEEN, UNSEEN)
        for one in document.differences
    )
    if 2 * family / (document.draws + 1) > 0.05:
        yield (
            f"{document.draws} draws are too few: corrected for {family} comparisons, p cannot "
            "fall below 0.05, so none can be shown."
        )
    if UNSEEN not in headline.groups:
        yield (
            "No hospital was left out of training: how the model does at a new one is not known "
            "from this evaluation."
        )
    elif sum(not site.seen for site in document.patients) == 1:
        yield (
            "One hospital was left out of training. Its figures hold for it; leaving each one out "
            "in turn would say more about new hospitals."
        )
    if document.alone is None:
        yield "No arm where every hospital trained alone: what each gained is not known."
    if document.privacy is None:
        yield "The privacy of the training was not stated."
    if not any(arm.conversion for arm in document.arms):
        yield "No patient with MCI has a known course over 36 months: conversion is not evaluated."
    for column, known in (
        ("sex", any(set(site.sex) != {"unknown"} for site in document.patients)),
        ("age", any(site.age_known for site in document.patients)),
        ("field strength", any(set(s.field_strength_t) != {"unknown"} for s in document.patients)),
        ("scanner vendor", any(set(site.vendor) != {"unknown"} for site in document.patients)),
    ):
        if not known:
            yield f"The {column} of the patients is not known: there are no such subgroups."
    hidden = sum(one.suppressed for one in document.subgroups)
    if hidden:
        yield (
            f"{hidden} of {len(document.subgroups)} subgroups have too few patients of a class "
            "(20 are needed) and show no figure."
        )
    yield from _beyond(document)


def _beyond(document: EvaluationDocument) -> Iterator[str]:
    """What predictions alone cannot tell, where it was not given beside them."""
    if not document.site_probes:
        yield "No embeddings were given: whether they betray the hospital is not known."
    elif all(one.within.value is None for one in document.site_probes):
        yield "Too few patients of a class at two hospitals: their trace was not probed."
    if not document.robustness:
        yield "No predictions on corrupted scans were given: robustness is not evaluated."
    elif any(one.suppressed for one in document.robustness):
        yield "Robustness is hidden where a class has fewer than 20 patients."
    if document.audit is None:
        yield "No audit was given: attacks on the privacy of the training were not made here."
    yield (
        "Not in this document: explanations, distances of travelling phantoms, patients left out "
        "of an archive, and adaptation to fewer scans (other commands; see docs/evaluation.md)."
    )
