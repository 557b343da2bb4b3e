"""Embeddings of this hospital's patients; they stay here, only bounded, noised sums may leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.adaptation.dimensions import embedding_size
from shared_model.metrics import Floats, Ints


@torch.no_grad()
def mean_embeddings(model: SiteModel, examples: Sequence[PatientExamples]) -> tuple[Ints, Floats]:
    """Labels ``(N,)`` and embeddings ``(N, E)``, as they come: perhaps not finite.

    The mean over a patient's scans, with the label of the first visit. Each patient is a forward
    pass of its own, so that no row depends on another patient.
    """
    model.model.eval()
    rows = np.zeros((len(examples), embedding_size(model.plan)))
    for row, patient in enumerate(examples):
        scans = [
            cast(Tensor, model.output(inputs).embedding).double()  # type: ignore[attr-defined]
            for inputs, _ in patient.chunks()
        ]
        rows[row] = torch.cat(scans).mean(0).cpu().numpy()
    return np.array([int(patient.labels[0]) for patient in examples], dtype=np.int64), rows
