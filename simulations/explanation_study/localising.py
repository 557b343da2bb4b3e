"""Do the maps lie on what is truly atrophied? Per method, and for maps that know nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple

import numpy as np

from client.prepared.intensity import BACKGROUND
from shared_model.explanation.baselines import edges, mean_brain
from shared_model.explanation.figures import Interval, LocalisationFigures
from shared_model.explanation.measures import Localisation, localise
from shared_model.explanation.methods import METHODS
from shared_model.explanation.region_map import spread
from shared_model.explanation.relevance import Case, Map
from simulations.explanation_study.subjects import StudyCohort, Subject, spread_out

_DRAWS = 2000
# The mean brain is a baseline: no more than a few patients are needed for it.
_MEAN_OF = 48

#: Methods that read the output alone, so that cached tokens do.
FROM_TOKENS = ("region_evidence", "slice_attention", "region_importance")
#: Methods that pass the scan through the network many times.
FROM_VOLUMES = ("occlusion", "integrated_gradients", "grad_cam")
CaseOf = Callable[[Subject], Case]


def localisations(study: StudyCohort, method: str, cases: Iterable[Case]) -> list[Localisation]:
    """One measurement per case."""
    return [localise(METHODS[method].make(case).voxels, study.truth, study.brain) for case in cases]


def baseline_maps(study: StudyCohort, subjects: Sequence[Subject]) -> dict[str, list[Map]]:
    """Maps without a model: edges of the scan, the mean brain, and every region alike."""
    labels = study.cohort.atlas.labels
    some = spread_out(study.train, _MEAN_OF)
    mean = sum((one.volume for one in some), np.zeros(labels.shape, np.float32)) / len(some)
    average = mean_brain(mean.astype(np.float32), labels, BACKGROUND)
    alike = spread(np.ones(study.cohort.atlas.region_count), labels)
    return {
        "edge_detector": [edges(subject.volume, labels) for subject in subjects],
        "mean_brain": [average for _ in subjects],
        "regions_alike": [alike for _ in subjects],
    }


def figures_of(
    found: Sequence[Localisation], by_model: Sequence[float] = (), seed: int = 0
) -> LocalisationFigures:
    """Means with bootstrap intervals over patients, and the mean mass of each model."""
    ratios = [one.mass_over_chance for one in found]
    return LocalisationFigures(
        patients=len(found),
        by_model=tuple(by_model),
        mass_over_chance=interval(ratios, seed),
        worst=float(min(ratios)),
        rank=interval([one.rank for one in found], seed),
        pointing=interval([one.pointing for one in found], seed),
        auprc=interval([one.auprc for one in found], seed),
        iou=interval([one.iou for one in found], seed),
    )


def mean_mass(found: Sequence[Localisation]) -> float:
    """Mean mass over chance of the patients explained with one model."""
    return float(np.mean([one.mass_over_chance for one in found]))


def mean_over_models(found: Sequence[Sequence[Localisation]]) -> list[Localisation]:
    """Each patient's mean over models: one row of patients per model, all in the same order."""
    return [
        Localisation(*np.mean([astuple(one) for one in patient], axis=0).tolist())
        for patient in zip(*found, strict=True)
    ]


def interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Mean with its 95 % percentile interval over patients."""
    rows = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    draws = rows[rng.integers(0, len(rows), (_DRAWS, len(rows)))].mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value=float(rows.mean()), low=float(low), high=float(high))
