"""A real SMR-Net on a coarse grid with random patients, for the tests of training and privacy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.atlas.atlas import Atlas
from shared_model.grid import ModelGrid
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups
from shared_model.smrnet.tokens import Tokens

GRID = ModelGrid(spacing_mm=4.0)


def small_atlas() -> Atlas:
    labels = np.zeros(GRID.shape, np.int16)
    inside = labels[4:-4, 4:-4, 4:-4]
    for axis, value in enumerate((1, 2, 4)):
        half = inside.shape[axis] // 2
        upper = [slice(None)] * 3
        upper[axis] = slice(half, None)
        inside[tuple(upper)] += value
    inside += 1
    ring = np.roll(np.eye(8, dtype=np.float32), 1, axis=1)
    return Atlas(
        name="octants",
        labels=labels,
        affine=GRID.affine,
        names=tuple(f"octant {i}" for i in range(8)),
        homologs=(-1,) * 8,
        adjacency=ring + ring.T,
    )


def small_plan(
    mode: str = "local",
    site_norm: str = "residual",
    encoder: str = "frozen",
    *,
    declared: int = 20,
    privacy: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    dropout: float = 0.0,
    adaptation: dict[str, Any] | None = None,
    aggregation: dict[str, Any] | None = None,
) -> FederationPlan:
    private = {"mode": "local", "noise_multiplier": 2.0, "epsilon": 8.0}
    groups = default_groups("smrnet", site_norm, encoder)  # type: ignore[arg-type]
    return FederationPlan.parse(
        {
            "name": "small",
            "input": {"grid": {"spacing_mm": GRID.spacing_mm}},
            "model": {"config": {"width": 4, "dropout": dropout}},
            "groups": groups.model_dump(),
            "privacy": (private if mode == "local" else {"mode": "none"}) | (privacy or {}),
            "training": {"rounds": 3, "learning_rate": 0.1} | (training or {}),
            "adaptation": {"site_norm": site_norm, "personalise_steps": 5} | (adaptation or {}),
            "aggregation": aggregation or {},
            "federation": {
                "sites": [
                    {"name": "a", "declared_patients": declared},
                    {"name": "b", "declared_patients": declared},
                ]
            },
        }
    )


def small_model(plan: FederationPlan) -> SiteModel:
    """A model whose evidence has left its start at zero, so that every parameter has a gradient."""
    site_model = SiteModel.build(plan, small_atlas())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in ("reasoner.head.weight", "reasoner.readout.common"):
            (parameter,) = site_model.parameters([name])
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return site_model


def token_patients(
    site_model: SiteModel, count: int, seed: int = 0, scans: int = 2
) -> list[PatientExamples]:
    """Patients with 1 to ``scans`` scans; tokens that carry their label."""
    generator = torch.Generator().manual_seed(seed)
    shape = site_model.tokenise(torch.zeros(1, 1, *GRID.shape))
    out = []
    for number in range(count):
        rows = 1 + number % scans
        labels = torch.full((rows,), number % 3)
        drawn = [
            torch.randn(rows, *part.shape[1:], generator=generator) + labels[0]
            for part in (shape.regions, shape.slices)
        ]
        out.append(PatientExamples(f"p{number}", Tokens(*drawn), labels))
    return out


def volume_patients(count: int, seed: int = 0) -> list[PatientExamples]:
    generator = torch.Generator().manual_seed(seed)
    return [
        PatientExamples(
            f"p{number}",
            torch.randn(1, 1, *GRID.shape, generator=generator),
            torch.tensor([number % 3]),
        )
        for number in range(count)
    ]


class FixedRandom:
    """Everybody joins, or those that are named; the noise is ``scale`` times a fixed vector."""

    def __init__(self, chosen: list[int] | None = None, scale: float = 0.0) -> None:
        self.chosen = chosen
        self.scale = scale
        self.normals_drawn = 0

    def select(self, count: int, rate: float) -> np.ndarray:
        return np.arange(count) if self.chosen is None else np.array(self.chosen, dtype=np.intp)

    def normal(self, count: int) -> np.ndarray:
        self.normals_drawn += count
        return self.scale * np.linspace(-1, 1, count)


def flat(arrays: dict[str, np.ndarray]) -> Tensor:
    return torch.cat([torch.from_numpy(value).reshape(-1).double() for value in arrays.values()])
