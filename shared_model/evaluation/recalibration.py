"""Calibration before and after a temperature that each hospital fits for itself."""

from __future__ import annotations

import math

import numpy as np

from shared_model.evaluation.beyond import Recalibration
from shared_model.evaluation.estimate import Estimate
from shared_model.evaluation.figures import Scored
from shared_model.evaluation.table import Floats, Ints, PredictionTable
from shared_model.metrics.arrays import everybody
from shared_model.metrics.bootstrap import percentile_interval
from shared_model.metrics.calibration import ece_over
from shared_model.metrics.scores import log_losses
from shared_model.metrics.temperature import fitted_temperature, with_temperature

_FOLDS = 5


def recalibration(
    table: PredictionTable, scored: Scored, where: str, seed: int, confidence: float
) -> Recalibration:
    """Log-likelihood and ECE of a group before and after; no patient helps to fit its own.

    The patients of a hospital are cut into five parts; the temperature of each part is fitted on
    the other four. With few patients a fitted temperature may make things worse, and then does so
    here as it would at the hospital.
    """
    p = scored.p.copy()
    temperatures: dict[str, float | None] = {}
    for site in sorted(table.sites):
        rows = np.flatnonzero([name == site for name in table.site])
        found = fitted_temperature(scored.y[rows], scored.p[rows])
        temperatures[site] = found if math.isfinite(found) else None
        # A stream of its own for a hospital: who else is in the group plays no part.
        part = np.random.default_rng([seed, len(rows)]).permutation(len(rows)) % _FOLDS
        for fold in range(_FOLDS):
            held, fit = rows[part == fold], rows[part != fold]
            if len(held) and len(fit):
                t = fitted_temperature(scored.y[fit], scored.p[fit])
                if math.isfinite(t):
                    p[held] = with_temperature(scored.p[held], t)
    names = ("negative_log_likelihood", "ece")
    return Recalibration(
        where=where,
        patients=len(scored.y),
        temperature=temperatures,
        before={name: scored.interval(name, confidence) for name in names},
        after=dict(zip(names, _figures(scored.y, p, scored.counts, confidence), strict=True)),
    )


def _figures(y: Ints, p: Floats, counts: Floats, confidence: float) -> tuple[Estimate, Estimate]:
    every = np.concatenate([everybody(len(y)), counts])
    loss = (every @ log_losses(y, p)) / every.sum(1)
    error = ece_over(y, p, every)
    # As in Scored.interval: a draw's calibration error is biased upwards.
    error[1:] = np.maximum(error[1:] - (np.nanmedian(error[1:]) - error[0]), 0)
    return tuple(  # type: ignore[return-value]
        Estimate.of(found.estimate, found.low, found.high)
        for found in (
            percentile_interval(float(values[0]), values[1:], confidence)
            for values in (loss, error)
        )
    )
