"""People as training examples without a hospital: for arms that pool all data in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.connex.graphs import Connectomes
from simulations.connectomes.anatomy import Matrix
from simulations.connectomes.people import Person

#: Of a site's people the last quarter is tested on.
TRAINED = 0.75


def split(people: Sequence[Person]) -> tuple[Sequence[Person], Sequence[Person]]:
    """The people of one site that are trained on, and those that are tested on."""
    middle = round(TRAINED * len(people))
    return people[:middle], people[middle:]


def connectomes_of(people: Sequence[Person], regions: int) -> Connectomes:
    """Matrices and flags of people; zeros where a modality is missing."""

    def stacked(matrices: Sequence[Matrix | None]) -> tuple[torch.Tensor, torch.Tensor]:
        nothing = np.zeros((regions, regions))
        values = np.stack([nothing if m is None else m * (1 - np.eye(regions)) for m in matrices])
        there = [float(m is not None) for m in matrices]
        return torch.from_numpy(values.astype(np.float32)), torch.tensor(there)

    structural, has_structural = stacked([p.structural for p in people])
    functional, has_functional = stacked([p.functional for p in people])
    return Connectomes(structural, functional, has_structural, has_functional)


def examples_of(model: SiteModel, people: Sequence[Person]) -> list[PatientExamples]:
    """One scan per person, as tokens of the model."""
    regions = model.sizes.regions
    graphs = model.tokenise(connectomes_of(people, regions))
    return [
        PatientExamples(person.id, graphs[i : i + 1], torch.tensor([person.label]))
        for i, person in enumerate(people)
    ]


def edge_table(people: Sequence[Person]) -> npt.NDArray[np.float64]:
    """``(N, E)`` upper triangles of both modalities, ``log1p`` and Fisher z; NaN where missing.

    As in ConneX each patient's edges are standardised over the patient's own.
    """
    rows = []
    for person in people:
        parts = []
        for matrix in (person.structural, person.functional):
            size = 0 if matrix is None else len(matrix)
            if matrix is None:
                other = person.functional if person.structural is None else person.structural
                size = 0 if other is None else len(other)
                parts.append(np.full(size * (size - 1) // 2, np.nan))
                continue
            edges = matrix[np.triu_indices(size, 1)]
            edges = np.log1p(edges) if matrix is person.structural else np.arctanh(edges)
            parts.append((edges - edges.mean()) / edges.std())
        rows.append(np.concatenate(parts))
    return np.array(rows)
