"""The comparisons of a scenario in words: where a change does not help, it says so."""

from __future__ import annotations

from collections.abc import Sequence

from shared_model.evaluation.wording import listed
from simulations.scenarios.results import Difference

_GROUPS = {
    "seen": "hospitals that took part",
    "worst-seen": "the worst of them",
    "unseen": "hospitals left out",
    "worst-unseen": "the worst left out",
}
#: Half width of an interval below which "no difference shown" says that there is hardly one.
_NARROW = 0.02


def readings(differences: Sequence[Difference], titles: dict[str, str]) -> tuple[str, ...]:
    """One sentence per pair of arms, those that show no gain anywhere first.

    An arm is the scenario's change, and what it is taken from (``minus``) is without it.
    """
    pairs: dict[tuple[str, str], list[Difference]] = {}
    for one in differences:
        if one.difference.value is not None:
            pairs.setdefault((one.arm, one.minus), []).append(one)
    found = [
        (any(one.verdict == "higher" for one in own), _sentence(own, titles[arm], titles[minus]))
        for (arm, minus), own in pairs.items()
    ]
    return tuple(text for gain, text in sorted(found, key=lambda pair: pair[0]))


def _sentence(own: Sequence[Difference], arm: str, minus: str) -> str:
    def at(verdict: str) -> list[str]:
        return [_place(one.where) for one in own if one.verdict == verdict]

    higher, lower, neither = at("higher"), at("lower"), at("not shown")
    parts = []
    if lower:
        parts.append(f"worse at {listed(lower)}")
    if higher:
        parts.append(f"better at {listed(higher)}")
    if neither:
        parts.append(f"no difference shown at {listed(neither)}{_within(own)}")
    if not higher:
        return f"No gain shown: “{arm}” against “{minus}”: {'; '.join(parts)}."
    return f"“{arm}” against “{minus}”: {'; '.join(parts)}."


def _within(own: Sequence[Difference]) -> str:
    """How much the patients could have shown: an interval that is wide is no equality."""
    ends = [
        max(abs(one.difference.low), abs(one.difference.high))
        for one in own
        if one.verdict == "not shown"
        and one.difference.low is not None
        and one.difference.high is not None
    ]
    if not ends:
        return ""
    widest = max(ends)
    if widest == 0:
        return " (both decide the same for everybody)"
    if widest <= _NARROW:
        return f" (the intervals end within {widest:.3f}: hardly any)"
    return f" (the intervals reach {widest:.2f}: it may be there)"


def _place(where: str) -> str:
    group, _, site = where.partition(":")
    return site if site else _GROUPS[group]
