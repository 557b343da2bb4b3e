"""The plain sentences at the top of the report, each decided by the numbers and their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simulations.report.evidence import Decision, decide
from simulations.report.results import (
    SEEN,
    UNSEEN,
    Arm,
    Comparison,
    FederationReport,
    Ratio,
)
from simulations.report.wording import (
    interval,
    listed,
    percent,
    points,
    points_interval,
    significant,
)

Verdict = Literal["shown", "not shown", "against", "stated", "warning"]


@dataclass(frozen=True)
class Statement:
    """One sentence, and what the numbers allow: ``shown`` only if the interval says so."""

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Contrast:
    """Whether one arm is better than another in one group, and on what evidence.

    Attributes:
        verdict: ``shown`` better, ``against`` worse, or ``not shown``.
        evidence: the numbers in words.
    """

    verdict: Decision
    evidence: str


def statements(report: FederationReport) -> tuple[Statement, ...]:
    """All sentences of the headline box, the most important first."""
    found = [
        *(_discrimination(report, where) for where in (UNSEEN, SEEN)),
        _gain_over_alone(report),
        _price_of_privacy(report),
        *(_over_baseline(report, role) for role in ("demographics", "region_volumes")),
        _privacy(report),
        _control(report),
        _explanation(report),
    ]
    return tuple(statement for statement in found if statement is not None)


def contrast(report: FederationReport, arm: Arm, reference: Arm, where: str) -> Contrast | None:
    """Compare two arms in one group: by the paired difference, else by whether intervals overlap.

    None where neither the difference nor both scores are there.
    """
    paired = report.comparison(arm.key, reference.key, where) or _reversed(
        report.comparison(reference.key, arm.key, where)
    )
    if paired is not None:
        evidence = (
            f"{points(paired.difference)} percentage points, 95\u202f% interval "
            f"{points_interval(paired.low, paired.high)}"
        )
        return Contrast(decide(paired.low, paired.high), evidence)
    ours, theirs = arm.scores.get(where), reference.scores.get(where)
    if ours is None or theirs is None:
        return None
    evidence = (
        f"{percent(ours.balanced_accuracy)} ({interval(ours.low, ours.high)}) against "
        f"{percent(theirs.balanced_accuracy)} ({interval(theirs.low, theirs.high)})"
    )
    return Contrast(decide(ours.low - theirs.high, ours.high - theirs.low), evidence)


def _reversed(comparison: Comparison | None) -> Comparison | None:
    if comparison is None:
        return None
    return Comparison(
        arm=comparison.reference,
        reference=comparison.arm,
        where=comparison.where,
        difference=-comparison.difference,
        low=-comparison.high,
        high=-comparison.low,
        n=comparison.n,
    )


def _discrimination(report: FederationReport, where: str) -> Statement | None:
    arm = report.arm(report.headline_arm)
    score = arm.scores.get(where)
    if score is None:
        return None
    place = "At hospitals that took part"
    if where == UNSEEN:
        alone = sum(site.held_out for site in report.cohort) == 1
        place = f"At {'a hospital' if alone else 'hospitals'} that took no part in training"
    fact = (
        f"{place}, “{arm.title}” told {listed(report.labels)} apart with a balanced "
        f"accuracy of {percent(score.balanced_accuracy)} (95\u202f% interval "
        f"{interval(score.low, score.high)}, {score.n} test patients; guessing gives "
        f"{percent(report.chance)})."
    )
    verdict = decide(score.low, score.high, report.chance)
    ending = {
        "shown": "That is better than guessing.",
        "against": "That is worse than guessing.",
        "not shown": "That it is better than guessing is not shown.",
    }[verdict]
    return Statement(verdict, f"{fact} {ending}")


def _gain_over_alone(report: FederationReport) -> Statement | None:
    arm, alone = report.arm(report.headline_arm), report.first_arm("alone")
    if alone is None or alone.key == arm.key:
        return None
    verdicts = {
        site.name: found.verdict
        for site in report.cohort
        if not site.held_out and (found := contrast(report, arm, alone, site.name)) is not None
    }
    if not verdicts:
        return None
    better = [name for name, verdict in verdicts.items() if verdict == "shown"]
    worse = [name for name, verdict in verdicts.items() if verdict == "against"]
    text = (
        f"Learning together instead of alone: a gain is shown for {len(better)} of "
        f"{len(verdicts)} hospitals" + (f" ({listed(better)})" if better else "")
    )
    if worse:
        text += f", a loss for {len(worse)} ({listed(worse)})"
    undecided = len(verdicts) - len(better) - len(worse)
    text += f"; for {undecided} neither gain nor loss is shown." if undecided else "."
    verdict: Verdict = "against" if worse else "shown" if better else "not shown"
    return Statement(verdict, text)


def _price_of_privacy(report: FederationReport) -> Statement | None:
    arm = report.arm(report.headline_arm)
    if arm.privacy == "none":
        return None
    open_arm = next((a for a in report.arms if a.role == "federated" and a.privacy == "none"), None)
    found = None if open_arm is None else _first_contrast(report, arm, open_arm)
    if found is None:
        return None
    result, place = found
    text = f"The price of privacy, {place}: {result.evidence}, compared with no privacy."
    if result.verdict == "against":
        return Statement("against", f"{text} A loss of accuracy is shown.")
    if result.verdict == "shown":
        return Statement("shown", f"{text} The private model was the better one in this run.")
    return Statement("not shown", f"{text} A difference is not shown; that is no proof of none.")


def _over_baseline(
    report: FederationReport, role: Literal["demographics", "region_volumes"]
) -> Statement | None:
    arm, baseline = report.arm(report.headline_arm), report.first_arm(role)
    found = None if baseline is None else _first_contrast(report, arm, baseline)
    if baseline is None or found is None:
        return None
    result, place = found
    ending = {
        "shown": "The image model is better.",
        "against": "The image model is worse.",
        "not shown": "That the image model is better is not shown.",
    }[result.verdict]
    text = f"Compared with “{baseline.title}”, {place}: {result.evidence}. {ending}"
    return Statement(result.verdict, text)


def _first_contrast(
    report: FederationReport, arm: Arm, reference: Arm
) -> tuple[Contrast, str] | None:
    for where, place in ((UNSEEN, "at the unseen hospital"), (SEEN, "at hospitals that took part")):
        found = contrast(report, arm, reference, where)
        if found is not None:
            return found, place
    return None


def _privacy(report: FederationReport) -> Statement:
    arm = report.arm(report.headline_arm)
    if arm.privacy == "none":
        return Statement(
            "warning",
            f"“{arm.title}” gives patients no formal privacy guarantee: their images stay in the "
            "hospital, but what is sent may still reveal something about single patients.",
        )
    spent = report.privacy
    if not spent:
        return Statement(
            "warning", "The ledgers of the hospitals are missing: no spent epsilon is shown."
        )
    most = max(site.spent_epsilon for site in spent)
    deltas = {site.delta for site in spent}
    sign = "=" if len(deltas) == 1 else "≤"
    delta = f"δ\u00a0{sign}\u00a0{significant(max(deltas))}"
    over = [site.site for site in spent if site.spent_epsilon > site.budget_epsilon]
    if over:
        return Statement("warning", f"The privacy budget was exceeded at {listed(over)}.")
    return Statement(
        "stated",
        f"Every training patient is protected by differential privacy: no hospital spent more "
        f"than ε\u00a0=\u00a0{most:.2f} at {delta}, within its budget; all scans of a patient "
        "count as one.",
    )


def _control(report: FederationReport) -> Statement | None:
    control = report.first_arm("shuffled")
    where = next((w for w in (SEEN, UNSEEN) if control is not None and w in control.scores), None)
    if control is None or where is None:
        return None
    score = control.scores[where]
    text = (
        f"Control: trained on shuffled diagnoses, the same procedure reached "
        f"{percent(score.balanced_accuracy)} ({interval(score.low, score.high)}; guessing "
        f"{percent(report.chance)})"
    )
    if decide(score.low, score.high, report.chance) == "shown":
        return Statement("warning", f"{text}: better than guessing, so look for a leak of labels.")
    return Statement("stated", f"{text}: not better than guessing, as it should be.")


def _explanation(report: FederationReport) -> Statement | None:
    ratio = None if report.explanations is None else report.explanations.region_mass_ratio
    if ratio is None:
        return None
    text = (
        "The regions that drove this model's output: truly atrophied ones got "
        f"{significant(ratio.value)} times the weight that chance gives them"
        f"{ratio_interval(ratio)}."
    )
    verdict: Decision = "not shown"
    if ratio.low is not None and ratio.high is not None:
        verdict = decide(ratio.low, ratio.high, 1.0)
    ending = {
        "shown": "",
        "against": " That is less than chance.",
        "not shown": " That this is more than chance is not shown.",
    }[verdict]
    return Statement(verdict, text + ending)


def ratio_interval(ratio: Ratio) -> str:
    """The interval of a ratio in brackets, or a note that none was computed."""
    if ratio.low is None or ratio.high is None:
        return " (no interval computed)"
    return f" (95\u202f% interval {significant(ratio.low)} to {significant(ratio.high)})"
