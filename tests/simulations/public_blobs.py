"""Public subjects that cost nothing: octants with a dark cube of the planted size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from small_site import GRID, small_atlas

from shared_model.registry import build_model
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.tokens import plane_sizes
from simulations.pretraining.heads import MorphometryTargets

ATLAS = small_atlas()
REGIONS = len(ATLAS.names)
LABELS = torch.from_numpy(ATLAS.labels.astype(np.int64))
SLICES = sum(plane_sizes(LABELS, 2))


def blob_model(seed: int = 0, normative: int | None = 2) -> SMRNet:
    model = build_model(
        "smrnet",
        {"width": 4, "normative_features": normative},
        GRID,
        LABELS,
        torch.from_numpy(ATLAS.adjacency.copy()),
        3,
        seed,
    )
    assert isinstance(model, SMRNet)
    return model


class Blobs:
    """``count`` subjects; ``planted`` ``(N, R)`` in [0, 1] is the side of the cube in each octant.

    A scanner changes gain, offset and noise.
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.planted = rng.random((count, REGIONS))
        self.looks = 0
        self._dark = np.zeros((count, *GRID.shape), bool)
        for region in range(REGIONS):
            where = np.argwhere(ATLAS.labels == region + 1)
            low, high = where.min(0), where.max(0) + 1
            for subject in range(count):
                side = np.ceil((high - low) * (0.2 + 0.8 * self.planted[subject, region]))
                box = tuple(slice(a, int(a + s)) for a, s in zip(low, side, strict=True))
                self._dark[subject][box] = True
        volumes = torch.from_numpy(self.planted - self.planted.mean(0)).float() / 0.29
        person = torch.from_numpy(rng.standard_normal((count, 2))).float()
        csf = volumes.mean(1, keepdim=True).expand(-1, SLICES).clone()
        self.targets = MorphometryTargets(volumes, csf, person)
        planted = torch.from_numpy(self.planted)
        self.region_truth = torch.stack([planted, planted.flip(0)], dim=2)
        self.slice_truth = torch.stack([csf.double(), csf.double().flip(0)], dim=2)

    def __len__(self) -> int:
        return len(self._dark)

    def look(self, subject: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        self.looks += 1
        bright = np.where(self._dark[subject], -1.0, 1.0) * (ATLAS.labels > 0)
        noise = 0.1 * rng.standard_normal(GRID.shape, dtype=np.float32)
        seen = rng.uniform(0.8, 1.2) * bright + rng.uniform(-0.1, 0.1) + noise
        return seen.astype(np.float32)[None]

    def tissue(self, subject: int) -> npt.NDArray[np.float32]:
        inside = ATLAS.labels > 0
        dark = self._dark[subject] & inside
        return np.stack([dark, inside & ~dark, np.zeros_like(dark)]).astype(np.float32)
