"""The plain sentences at the top of a page, each decided by the figures and their intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shared_model.evaluation.results import (
    SEEN,
    UNSEEN,
    Estimate,
    EvaluationDocument,
    PairedDifference,
)
from shared_model.evaluation.wording import difference, listed, number, p_value, with_interval

Verdict = Literal["shown", "not shown", "against", "stated", "warning"]
_PRIMARY = "balanced_accuracy"
# Half of the last printed digit: a sentence never contradicts its own numbers.
_HALF_DIGIT = 0.0005


@dataclass(frozen=True)
class Sentence:
    """What may be said; ``shown`` only where the whole interval says so."""

    verdict: Verdict
    text: str


def sentences(document: EvaluationDocument) -> tuple[Sentence, ...]:
    """All of them, the most important first."""
    return tuple(_sentences(document))


def decide(found: Estimate, level: float = 0.0) -> Literal["shown", "not shown", "against"]:
    """``shown`` where the interval lies above the level, ``against`` where below, else neither."""
    if found.low is None or found.high is None:
        return "not shown"
    if found.low > level + _HALF_DIGIT:
        return "shown"
    return "against" if found.high < level - _HALF_DIGIT else "not shown"


def _sentences(document: EvaluationDocument) -> Iterator[Sentence]:
    for where in (UNSEEN, SEEN):
        yield from _discrimination(document, where)
    yield from _spread(document)
    yield from _gains(document)
    for where in (UNSEEN, SEEN):
        yield from _best_reference(document, where)
    yield from _conversion(document)
    yield from _trace(document)
    yield from _worse_scans(document)
    yield _privacy(document)
    yield _overlap(document)


def _place(document: EvaluationDocument, where: str) -> str:
    """Whose patients a sentence is about."""
    if document.scope == "stays":
        return "at this hospital"
    several = sum(site.seen == (where == SEEN) for site in document.patients) > 1
    kind = "that took part" if where == SEEN else "left out of training"
    return f"at hospitals {kind}" if several else f"at a hospital {kind}"


def _discrimination(document: EvaluationDocument, where: str) -> Iterator[Sentence]:
    arm = document.arm(document.headline)
    if where not in arm.groups:
        return
    group, chance = arm.groups[where], 1 / len(document.labels)
    found, auc = group.metrics[_PRIMARY], group.metrics["macro_auc"]
    place = _place(document, where)
    text = (
        f"“{arm.title}” told {listed(document.labels)} apart {place} with a balanced accuracy of "
        f"{with_interval(_PRIMARY, found)} % (guessing: {number(_PRIMARY, chance)}) and a macro "
        f"AUC of {with_interval('macro_auc', auc)}, in {group.patients} patients."
    )
    verdict = decide(found, chance)
    if found.value is None:
        text = f"“{arm.title}”, {place}: {group.patients} patients do not cover every class."
    elif verdict != "shown":
        text += " That it is better than guessing is not shown."
    yield Sentence(verdict, text)


def _spread(document: EvaluationDocument) -> Iterator[Sentence]:
    for one in document.arm(document.headline).spread:
        if one.metric == _PRIMARY and one.sites > 1 and one.gap is not None:
            kind = "that took part" if one.where == SEEN else "left out"
            yield Sentence(
                "stated",
                f"Over {one.sites} hospitals {kind} the mean is {number(_PRIMARY, one.mean)} %, "
                f"the worst {number(_PRIMARY, one.worst)} % ({one.worst_site}), and best and "
                f"worst differ by {number(_PRIMARY, one.gap)} points.",
            )


def _gains(document: EvaluationDocument) -> Iterator[Sentence]:
    if document.alone is None:
        return
    sites = [
        one
        for one in document.differences
        if one.metric == _PRIMARY
        and one.reference == document.alone
        and one.where not in (SEEN, UNSEEN)
        and one.difference.value is not None
    ]
    if not sites:
        return
    better = [one.where for one in sites if _certain(one) and decide(one.difference) == "shown"]
    worse = [one.where for one in sites if _certain(one) and decide(one.difference) == "against"]
    point = sum(one.difference.value is not None and one.difference.value > 0 for one in sites)
    text = (
        f"Does every hospital gain against training alone? {point} of {len(sites)} do better; "
        f"after correction for looking at {len(sites)}, a gain is shown for "
        f"{listed(better) or 'none'}"
    )
    text += f", a loss for {listed(worse)}." if worse else "; a loss is shown for none."
    yield Sentence("against" if worse else "shown" if better else "not shown", text)


def _certain(one: PairedDifference) -> bool:
    return one.p_holm is not None and one.p_holm <= 0.05


def _best_reference(document: EvaluationDocument, where: str) -> Iterator[Sentence]:
    compared = {one.reference for one in document.differences if one.where == where}
    arms = {
        arm.key: arm.groups[where].metrics[_PRIMARY].value
        for arm in document.arms
        if arm.key in compared
    }
    known = {key: value for key, value in arms.items() if value is not None}
    if not known:
        return
    best = max(known, key=lambda key: known[key])
    for one in document.differences:
        if (one.metric, one.where, one.reference) == (_PRIMARY, where, best):
            place = _place(document, where)
            verdict = decide(one.difference) if _certain(one) else "not shown"
            yield Sentence(
                verdict,
                f"Against the best other arm {place}, “{document.arm(best).title}”: "
                f"{difference(_PRIMARY, one.difference)} percentage points, p = "
                f"{p_value(one.p_holm)} after Holm's correction."
                + (" A difference is not shown." if verdict == "not shown" else ""),
            )


def _conversion(document: EvaluationDocument) -> Iterator[Sentence]:
    found = document.arm(document.headline).conversion
    for where in (SEEN, UNSEEN):
        if where in found:
            one = found[where]
            place = _place(document, where)
            yield Sentence(
                decide(one.auc, 0.5),
                f"Conversion of MCI within 36 months {place}: AUC of p(AD) "
                f"{with_interval('auc', one.auc)} in {one.progressed} who progressed and "
                f"{one.stable} who did not; the course of {one.unknown} is unknown.",
            )


def _trace(document: EvaluationDocument) -> Iterator[Sentence]:
    for one in document.site_probes:
        if one.arm != document.headline or one.within.value is None:
            continue
        model = f" ({one.model})" if one.model else ""
        told = decide(one.within, one.within_chance or 0.0) == "shown"
        yield Sentence(
            "against" if told else "not shown",
            f"Embeddings{model} {'betray' if told else 'are not shown to betray'} the hospital: "
            f"within a class a linear probe names it in {with_interval(_PRIMARY, one.within)} % of "
            f"{one.patients} patients (guessing: {number(_PRIMARY, one.within_chance)}).",
        )


def _worse_scans(document: EvaluationDocument) -> Iterator[Sentence]:
    for where in (UNSEEN, SEEN):
        known = [
            one
            for one in document.robustness
            if (one.arm, one.where) == (document.headline, where) and one.change.value is not None
        ]
        if not known:
            continue
        lost = [one for one in known if decide(one.change) == "against"]
        first = {kind: min(o.severity for o in lost if o.kind == kind)
                 for kind in dict.fromkeys(o.kind for o in lost)}  # fmt: skip
        told = listed([f"{kind.replace('_', ' ')} from severity {s}" for kind, s in first.items()])
        yield Sentence(
            "against" if lost else "not shown",
            f"On scans made worse {_place(document, where)} a loss of balanced accuracy is shown "
            f"for {told or 'no kind'} (severities up to "
            f"{max(one.severity for one in known)}; each interval by itself).",
        )


def _privacy(document: EvaluationDocument) -> Sentence:
    privacy = document.privacy
    if privacy is None:
        return Sentence("warning", "How the training protected patients was not stated.")
    if privacy.epsilon is None:
        return Sentence(
            "warning",
            f"The training gave patients no formal privacy guarantee (mode {privacy.mode}).",
        )
    return Sentence(
        "stated",
        f"Differential privacy per {privacy.unit}: ε = {privacy.epsilon:.2f} at δ = "
        f"{privacy.delta:g} ({privacy.how}); neighbours: {privacy.neighbouring}.",
    )


def _overlap(document: EvaluationDocument) -> Sentence:
    overlap = document.overlap
    if not overlap.checked:
        return Sentence("warning", f"Overlap of training and test patients: {overlap.how}.")
    return Sentence("stated", f"Overlap of training and test patients: {overlap.how}.")
