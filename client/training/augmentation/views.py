"""The augmented views of scans that a plan asks for, each known by its key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from client.prepared.brain_mask import brain_prior
from client.prepared.intensity import Intensity
from client.training.augmentation.augment import VERSION, augment
from client.training.augmentation.stream import augmentation_stream
from shared_model.augmentation import AugmentationSection
from shared_model.grid import ModelGrid
from shared_model.plan import FederationPlan

# What decides how many views there are, not what a view looks like.
_COUNTS = {"enabled", "multiplicity", "views"}


@dataclass(frozen=True)
class PlannedViews:
    """Views under one plan. Every one depends on public values, this scan and its patient alone.

    Attributes:
        section: the plan's ranges and counts.
        seed: of the plan.
        spacing_mm: of the plan's grid.
        intensity: the plan's standardisation.
        head: whether scans keep what is around the brain.
    """

    section: AugmentationSection
    seed: int
    spacing_mm: float
    intensity: Intensity
    head: bool = False

    @classmethod
    def of(cls, plan: FederationPlan) -> Self | None:
        """The views of a plan, or None where it does not augment."""
        if not plan.augmentation.enabled:
            return None
        preparation = plan.input.preparation
        head = preparation.source == "native" and not preparation.brain_extraction.strip
        spacing_mm = plan.input.grid.spacing_mm
        return cls(plan.augmentation, plan.seed, spacing_mm, plan.input.intensity, head)

    def kept(self, volume: Tensor, patient: str, scan: int, view: int) -> Tensor:
        """View number ``view`` of a scan ``(1, 1, D, H, W)``: the same in every round."""
        return self._view(volume, "view", patient, scan, view)

    def fresh(
        self, volume: Tensor, patient: str, scan: int, round_number: int, step: int, draw: int
    ) -> Tensor:
        """A view of a scan ``(1, 1, D, H, W)`` that occurs in one step only."""
        return self._view(volume, "step", round_number, step, patient, scan, draw)

    def chosen(
        self, patient: str, scan: int, count: int, round_number: int, step: int
    ) -> list[int]:
        """``multiplicity`` different ones of the ``count`` kept views of a scan, for one step."""
        stream = augmentation_stream(self.seed, "choice", round_number, step, patient, scan)
        return [int(view) for view in stream.permutation(count)[: self.section.multiplicity]]

    def recipe(self, patient: str, scan: int, view: int) -> bytes:
        """All that decides :meth:`kept` besides the scan."""
        ranges = self.section.model_dump(mode="json", exclude=_COUNTS)
        parts = [VERSION, np.__version__, ranges, self.spacing_mm, self.intensity]
        return json.dumps([*parts, self.seed, patient, scan, view], sort_keys=True).encode()

    def _view(self, volume: Tensor, *key: str | int) -> Tensor:
        stream = augmentation_stream(self.seed, *key)
        prepared = volume[0, 0].cpu().numpy()
        # The scan's own mask stayed with its preparation; the template's brain is near enough.
        brain = brain_prior(ModelGrid(spacing_mm=self.spacing_mm)).brain if self.head else None
        view = augment(prepared, self.section, stream, self.spacing_mm, self.intensity, brain)
        return torch.from_numpy(view)[None, None].to(volume.device, volume.dtype)
