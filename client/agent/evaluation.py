"""How well the released model does on this hospital's own test patients; stays at the hospital."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.metrics import METRICS, Floats, Ints, bootstrap, checked, stratified_draws

_WITH_INTERVAL = ("balanced_accuracy", "macro_auc")


@torch.no_grad()
def probabilities(model: SiteModel, examples: Sequence[PatientExamples]) -> tuple[Ints, Floats]:
    """Labels ``(N,)`` and class probabilities ``(N, C)`` of N >= 1 patients.

    A patient's probabilities are the mean over the patient's scans; the label is that of the first
    visit.
    """
    model.model.eval()
    rows = []
    for patient in examples:
        scans = [torch.softmax(model.logits(inputs).double(), 1) for inputs, _ in patient.chunks()]
        rows.append(torch.cat(scans).mean(0).cpu().numpy())
    labels = np.array([int(patient.labels[0]) for patient in examples])
    return checked(labels, np.stack(rows))


def scores(y: Ints, p: Floats, draws: int, seed: int) -> dict[str, Any]:
    """All metrics as JSON values, two of them with a 95 % bootstrap interval over patients.

    A metric that the patients do not determine (a class nobody has) is ``None``.
    """
    out: dict[str, Any] = {name: _number(metric(y, p)) for name, metric in METRICS.items()}
    resampled = stratified_draws(y, draws, seed)
    for name in _WITH_INTERVAL:
        interval = bootstrap(METRICS[name], y, p, resampled)
        out[f"{name}_95"] = [_number(interval.low), _number(interval.high)]
    return out


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
