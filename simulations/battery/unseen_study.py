"""Layer C measured: an unseen hospital with so many unlabelled scans, by shift and prevalence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from client.agent.evaluation import mean_deviations, mean_probabilities
from client.agent.statistics import released_statistics
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.adaptation.adapt import adapt
from shared_model.adaptation.model_moments import model_moments
from shared_model.adaptation.source import SourceMoments
from shared_model.adaptation.unseen_site import OFFSET_LEVEL, Shrinkage
from shared_model.errors import SmrfedError
from shared_model.metrics.bootstrap import Interval, draw_counts, percentile_interval
from shared_model.metrics.calibration import ece
from shared_model.plan import FederationPlan
from simulations.arms.train_rounds import Arrays

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Correction = Literal["none", "full", "shrunk", "em"]
CORRECTIONS: tuple[Correction, ...] = ("none", "full", "shrunk", "em")
_FULL, _SHRUNK = Shrinkage(0.0), Shrinkage()
#: Draws of the adaptation scans; every figure is a mean over them.
DRAWS = 10
RARE = 0.1


@dataclass(frozen=True)
class Seen:
    """A model's view of one hospital's patients: labels, probabilities, deviations."""

    label: Ints
    p: Floats
    deviation: Floats | None

    @classmethod
    def of(cls, model: SiteModel, examples: Sequence[PatientExamples]) -> Seen:
        """Of patients, by the model as it stands."""
        return cls(*mean_probabilities(model, examples), mean_deviations(examples))

    def rows(self, chosen: Ints) -> Seen:
        """Some of them."""
        deviation = None if self.deviation is None else self.deviation[chosen]
        return Seen(self.label[chosen], self.p[chosen], deviation)

    def with_rare(self, label: int, share: float) -> Seen:
        """Without most patients of one class, so that its share is ``share``; the first ones stay.

        Their order carries no information: synthetic patients are drawn one by one.
        """
        rare = np.flatnonzero(self.label == label)
        keep = int(share / (1 - share) * (len(self.label) - len(rare)))
        return self.rows(
            np.sort(np.concatenate([np.flatnonzero(self.label != label), rare[:keep]]))
        )


@dataclass(frozen=True)
class Outcome:
    """Per patient, averaged over the draws of adaptation scans: ``(N,)`` each; ece is of a seed."""

    label: Ints
    correct: Floats
    nll: Floats
    ece: float
    refused: int


def source_moments(
    model: SiteModel,
    shared: Arrays,
    members: Mapping[str, Sequence[PatientExamples]],
    plan: FederationPlan,
) -> SourceMoments:
    """What the federation would release of its training patients with this model."""
    model.load_shared(shared)
    model.reset_site()
    releases = {
        site: released_statistics(model, examples, plan, "calibrate")
        for site, examples in members.items()
    }
    return model_moments(releases, plan, "0" * 64).source


def outcome(
    seen: Seen,
    source: SourceMoments,
    radius: float,
    correction: Correction,
    scans: int,
    seed: int,
    shrinkage: Shrinkage = _SHRUNK,
    level: float = OFFSET_LEVEL,
) -> Outcome:
    """One correction with ``scans`` unlabelled scans of the hospital; all patients are scored.

    Labels are used for the score alone. A refusal leaves the model as it is, and is counted.
    """
    rng = np.random.default_rng([seed, scans])
    correct, nll, errors, refused = [], [], [], 0
    for _ in range(1 if correction == "none" or scans >= len(seen.label) else DRAWS):
        chosen = rng.permutation(len(seen.label))[:scans]
        decisions = probabilities = seen.p
        if correction != "none" and scans:
            part = seen.rows(chosen)
            method: Literal["em", "recentre"] = "em" if correction == "em" else "recentre"
            prior = _FULL if correction == "full" else shrinkage
            try:
                found = adapt(part.p, part.deviation, source, radius, method, prior, level)
                decisions = found.decisions(seen.p)
                probabilities = found.probabilities(seen.p, source)
            except SmrfedError:
                refused += 1
        correct.append(decisions.argmax(1) == seen.label)
        own = probabilities[np.arange(len(seen.label)), seen.label]
        nll.append(-np.log(np.maximum(own, 1e-12)))
        errors.append(ece(seen.label, probabilities))
    return Outcome(
        seen.label,
        np.mean(correct, axis=0),
        np.mean(nll, axis=0),
        float(np.mean(errors)),
        refused,
    )


def balanced(outcomes: Sequence[Outcome]) -> float:
    """Balanced accuracy over the patients of all seeds."""
    y = np.concatenate([o.label for o in outcomes])
    return float(
        np.mean(
            [np.concatenate([o.correct for o in outcomes])[y == c].mean() for c in np.unique(y)]
        )
    )


def gain(ours: Sequence[Outcome], theirs: Sequence[Outcome], seed: int = 0) -> Interval:
    """Paired difference in balanced accuracy; draws stratified by seed and class, 95 %."""
    y = np.concatenate([o.label for o in ours])
    where = np.concatenate([np.full(len(o.label), k) for k, o in enumerate(ours)])
    apart = np.concatenate([a.correct - b.correct for a, b in zip(ours, theirs, strict=True)])
    counts = draw_counts(y, where, seed=seed)

    def difference(weights: Floats) -> Floats:
        classes = [y == c for c in np.unique(y)]
        parts = [(weights[:, c] @ apart[c]) / weights[:, c].sum(1) for c in classes]
        mean: Floats = np.mean(parts, axis=0)
        return mean

    return percentile_interval(float(difference(np.ones((1, len(y))))[0]), difference(counts))
