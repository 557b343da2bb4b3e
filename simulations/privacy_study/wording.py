"""What the study found, in sentences that its figures bear."""

from __future__ import annotations

from collections.abc import Iterator

from simulations.privacy_study.plots import METRIC_TITLES
from simulations.privacy_study.predicted import Where
from simulations.privacy_study.results import Gain, PrivacyStudy

_PLACES: dict[Where, str] = {"seen": "At the hospitals that train", "unseen": "At the unseen one"}
_REFERENCES = {
    "alone": "each alone with the same ε",
    "demographics": "age and sex",
    "prior_free": "the same models with the prior-free rule",
}


def sentences(study: PrivacyStudy) -> Iterator[str]:
    """One sentence per comparison at the largest budget, then what the budgets can do at all."""
    largest = max(b.epsilon for b in study.budgets)
    for gain in study.gains:
        if gain.epsilon == largest and gain.metric == "balanced_accuracy":
            yield _gain_sentence(gain)
    for budget in study.budgets:
        yield (
            f"ε = {budget.epsilon:g}: S = {budget.signal_to_noise:.1f} together, "
            f"{budget.signal_to_noise_alone:.1f} alone; {budget.verdict}."
        )


def _gain_sentence(gain: Gain) -> str:
    found = gain.difference
    shown = "shown" if found.low > 0 or found.high < 0 else "not shown: the interval holds zero"
    return (
        f"{_PLACES[gain.where]}, {METRIC_TITLES[gain.metric]} at ε = {gain.epsilon:g} differs by "
        f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}] from that of "
        f"{_REFERENCES[gain.reference]} ({shown})."
    )
