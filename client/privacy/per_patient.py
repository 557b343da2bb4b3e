"""Epsilon per patient: the composition of the releases whose cohort holds the patient.

Why it is sound. Fix a patient x and compare the hospital with and without x. A release whose cohort
does not hold x has, given everything released before, the same distribution in both worlds,
provided that whether x belongs to a cohort depends on x alone and that nobody else's membership
depends on x. So only the releases whose cohort holds x have a privacy loss for x, and (adaptive)
composition over just those bounds what all releases together tell about x (individual accounting,
Feldman and Zrnic 2021). The premises hold here: admission looks at one patient's scans and fixed
limits, the split is a keyed hash of one identifier (a stratified split is refused with privacy,
SMR-E234), site state never steers a release, and what was released before x joined was computed
without x. A plan's test patients are not its training patients: they are charged for evaluation
alone.

Limits. The parameters of a release (noise, rate) are taken as fixed in advance; that a consortium
designs its next plan after seeing the last model is not covered by the composition theorem of
privacy loss distributions. Whether a release takes place may depend on the ledger (a refusal is
visible, and tells that somebody's budget is spent). A person under two identifiers is charged as
two. Replacing a patient is meant under the same identifier, so on the same side of the split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from shared_model.privacy.accounting import MechanismUse, Relation, epsilon


class Charge(NamedTuple):
    """One release as it counts: the digest of its cohort, and its mechanism."""

    cohort: str
    use: MechanismUse


#: Steps by mechanism (noise multiplier, sampling rate): what some patients were exposed to.
Exposure = frozenset[tuple[tuple[float, float], int]]


def exposures(
    charges: Iterable[Charge],
    cohorts: Mapping[str, frozenset[bytes]],
    patients: Iterable[bytes] | None = None,
) -> Counter[Exposure]:
    """How many patients had which exposure; all that any cohort holds unless ``patients`` names."""
    steps: dict[str, Counter[tuple[float, float]]] = {}
    for cohort, use in charges:
        if use.steps:
            mechanism = (use.noise_multiplier, use.sampling_rate)
            steps.setdefault(cohort, Counter())[mechanism] += use.steps
    membership: dict[bytes, list[str]] = {}
    if patients is not None:
        membership = {patient: [] for patient in patients}
    for cohort in sorted(steps):
        for patient in cohorts[cohort]:
            if patients is None:
                membership.setdefault(patient, []).append(cohort)
            elif patient in membership:
                membership[patient].append(cohort)
    out: Counter[Exposure] = Counter()
    for together, count in Counter(map(tuple, membership.values())).items():
        total: Counter[tuple[float, float]] = Counter()
        for cohort in together:
            total.update(steps[cohort])
        out[frozenset(total.items())] += count
    return out


def uses_of(exposure: Exposure) -> list[MechanismUse]:
    """An exposure as the mechanisms it consists of."""
    return [MechanismUse(*mechanism, steps) for mechanism, steps in sorted(exposure)]


def exposure_epsilon(
    exposure: Exposure, delta: float, relation: Relation = "add_or_remove_one"
) -> float:
    """Epsilon of one exposure at ``delta``."""
    return epsilon(uses_of(exposure), delta, relation)


def worst_exposure(exposed: Iterable[Exposure], delta: float) -> Exposure:
    """The exposure with the largest epsilon; those that others contain are not computed."""
    maximal: list[Exposure] = []
    for exposure in sorted(exposed, key=lambda e: -sum(steps for _, steps in e)):
        if not any(_contains(larger, exposure) for larger in maximal):
            maximal.append(exposure)
    return max(maximal, key=lambda e: exposure_epsilon(e, delta), default=frozenset())


def worst_epsilon(exposed: Iterable[Exposure], delta: float) -> float:
    """The largest epsilon of any exposure."""
    return exposure_epsilon(worst_exposure(exposed, delta), delta)


def _contains(larger: Exposure, smaller: Exposure) -> bool:
    steps = dict(larger)
    return all(steps.get(mechanism, 0) >= count for mechanism, count in smaller)
