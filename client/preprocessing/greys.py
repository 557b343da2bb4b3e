"""Grey values on the model grid brought to the model's scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from client.archive.problems import Defect, Problem
from client.prepared.intensity import Intensity, standardise
from client.preprocessing.image import Work


@dataclass(frozen=True)
class StandardiseGreys:
    """Robust z-score within the brain (client/prepared/intensity.py), per scan.

    Args:
        method: the plan's ``input.intensity``.
        strip: without it, what is around the brain is scaled with it and kept.
    """

    method: Intensity
    strip: bool = True

    name: ClassVar[str] = "greys"
    version: ClassVar[int] = 1

    def parameters(self) -> Mapping[str, Any]:
        """Method, and whether the head is kept."""
        return {"method": self.method, "strip": self.strip}

    def __call__(self, work: Work) -> Work:
        """Replace ``on_grid``. Raises a Defect, SMR-E215, for a brain without contrast."""
        if work.on_grid is None or work.brain_on_grid is None:
            raise ValueError("greys are standardised on the model grid")
        try:
            volume = standardise(
                work.on_grid, work.brain_on_grid, self.method, keep_outside=not self.strip
            )
        except ValueError as error:
            raise Defect(Problem.BAD_VOXELS, str(error)) from None
        return replace(work, on_grid=volume)
