"""How well the released model does on this hospital's own test patients; stays at the hospital."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.metrics import (
    METRICS,
    Floats,
    Ints,
    MetricOver,
    balanced_accuracy_over,
    bootstrap,
    checked,
    macro_auc_over,
    stratified_draws,
)
from shared_model.smrnet.tokens import Tokens

_WITH_INTERVAL: dict[str, MetricOver] = {
    "balanced_accuracy": balanced_accuracy_over,
    "macro_auc": macro_auc_over,
}


def scores_of_task(
    model: SiteModel, examples: Sequence[PatientExamples], draws: int, seed: int
) -> dict[str, Any]:
    """Figures of the plan's task over at least one patient, as JSON values."""
    if model.entry.task == "classification":
        return scores(*probabilities(model, examples), draws, seed)
    # With it come networks whose package takes seconds to import.
    from client.agent.lesion_evaluation import lesion_scores

    return lesion_scores(model, examples, draws, seed)


def probabilities(model: SiteModel, examples: Sequence[PatientExamples]) -> tuple[Ints, Floats]:
    """:func:`mean_probabilities` of at least one patient; raises SMR-E607 unless they are some."""
    return checked(*mean_probabilities(model, examples))


@torch.no_grad()
def mean_probabilities(
    model: SiteModel, examples: Sequence[PatientExamples]
) -> tuple[Ints, Floats]:
    """Labels ``(N,)`` and class probabilities ``(N, C)``, as they come: perhaps not finite.

    A patient's probabilities are the mean over the patient's scans; the label is that of the first
    visit. Each patient is a forward pass of its own, so that no row depends on another patient.
    """
    model.model.eval()
    rows = np.zeros((len(examples), len(model.plan.task.labels)))
    for row, patient in enumerate(examples):
        scans = [torch.softmax(model.logits(inputs).double(), 1) for inputs, _ in patient.chunks()]
        rows[row] = torch.cat(scans).mean(0).cpu().numpy()
    return np.array([int(patient.labels[0]) for patient in examples], dtype=np.int64), rows


def mean_deviations(examples: Sequence[PatientExamples]) -> Floats | None:
    """``(N,)`` mean log root mean square of each patient's tokens, or none where there are none.

    Tokens are deviations from a public reference: this is how far a scan is from it, whatever the
    trained part of the model says. Each patient by itself.
    """
    rows = np.zeros(len(examples))
    for row, patient in enumerate(examples):
        if not isinstance(patient.inputs, Tokens):
            return None
        parts = (patient.inputs.regions.flatten(1), patient.inputs.slices.flatten(1))
        mean_square = torch.cat(parts, 1).double().square().mean(1)
        rows[row] = float(0.5 * mean_square.clamp(min=1e-12).log().mean())
    return rows


def scores(y: Ints, p: Floats, draws: int, seed: int) -> dict[str, Any]:
    """All metrics as JSON values, two of them with a 95 % bootstrap interval over patients.

    A metric that the patients do not determine (a class nobody has) is ``None``.
    """
    out: dict[str, Any] = {name: _number(metric(y, p)) for name, metric in METRICS.items()}
    resampled = stratified_draws(y, draws, seed)
    for name, metric_over in _WITH_INTERVAL.items():
        interval = bootstrap(metric_over, y, p, resampled)
        out[f"{name}_95"] = [_number(interval.low), _number(interval.high)]
    return out


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
