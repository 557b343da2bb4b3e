"""Pseudo-labels for classification: a model teaches its successor where it is sure.

The patients without a label are the hospital's own. In a private plan the teacher would be a
released model, so its opinions are post-processing, and the successor's steps clip and noise the
pseudo-labelled patients like all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from client.agent.evaluation import mean_probabilities
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel


@dataclass(frozen=True)
class PseudoLabels:
    """Patients that the model is sure about, labelled by it, and how often it was right.

    ``precision`` is the share of right ones among them, which only a simulation can know; NaN where
    nobody passed.
    """

    examples: tuple[PatientExamples, ...]
    precision: float


def pseudo_labels(
    model: SiteModel, unlabelled: Sequence[PatientExamples], confidence: float
) -> PseudoLabels:
    """Label those patients whose most probable class has at least ``confidence``.

    The labels that the examples carry are used for ``precision`` alone.
    """
    truth, probability = mean_probabilities(model, unlabelled)
    guess = probability.argmax(1)
    sure = probability.max(1) >= confidence
    examples = tuple(
        PatientExamples(
            patient.id,
            patient.inputs,
            torch.full_like(patient.labels, int(guess[row])),
            patient.views,
        )
        for row, patient in enumerate(unlabelled)
        if sure[row]
    )
    right = float((guess == truth)[sure].mean()) if sure.any() else float(np.nan)
    return PseudoLabels(examples, right)
