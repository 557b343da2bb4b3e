"""The scanner's uneven brightness, estimated inside the brain and divided out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from client.preprocessing.image import Image, Mask, Volume, Work
from shared_model.preparation import Preparation

# The engines are imported where they work: who only asks what this step is needs none of them.
if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so

# Width of the control grid's cells that ITK refines once per level; 4 x 4 x 4 points to begin with.
_CONTROL_POINTS = 4
_THRESHOLD = 0.001


@dataclass(frozen=True)
class CorrectBiasField:
    """N4 (Tustison et al. 2010) as SimpleITK has it, fitted on a coarse copy inside the mask.

    The field is smooth, so it is fitted at ``shrink_mm`` and evaluated at every voxel of the scan;
    outside the brain, where nothing was fitted, it keeps the range it has inside.

    Args:
        enabled: False leaves the scan as it is.
        shrink_mm: voxel size at which the field is fitted.
        iterations: per fitting level.
    """

    enabled: bool = True
    shrink_mm: float = 4.0
    iterations: tuple[int, ...] = (50, 50, 30)

    name: ClassVar[str] = "bias_field"
    version: ClassVar[int] = 1

    @classmethod
    def of(cls, preparation: Preparation) -> CorrectBiasField:
        """The step that a plan asks for."""
        wanted = preparation.bias_field
        return cls(wanted.enabled, wanted.shrink_mm, wanted.iterations)

    def parameters(self) -> Mapping[str, Any]:
        """The plan's parameters, and SimpleITK's version."""
        return {
            "enabled": self.enabled,
            "shrink_mm": self.shrink_mm,
            "iterations": list(self.iterations),
            "simpleitk": version_of("SimpleITK"),
        }

    def __call__(self, work: Work) -> Work:
        """Correct the image; finds the field's 1st and 99th percentile in the brain."""
        if not self.enabled:
            return work
        if work.brain is None:
            raise ValueError("bias-field correction needs the brain mask")
        field = bias_field(work.image, work.brain, self.shrink_mm, self.iterations)
        low, high = np.percentile(field[work.brain], (1, 99))
        corrected = Image(work.image.voxels / field, work.image.affine)
        found = {"bias_field_range": [round(float(low), 4), round(float(high), 4)]}
        return replace(work, image=corrected, findings={**work.findings, **found})


def bias_field(image: Image, mask: Mask, shrink_mm: float, iterations: tuple[int, ...]) -> Volume:
    """``(I, J, K)`` the factor by which each voxel is too bright; its mean in the brain is 1."""
    import SimpleITK as sitk  # noqa: N813

    # The sums over a thread's share are rounded apart: one thread, one result.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    whole = _itk(image.voxels, image)
    signal = mask & (image.voxels > 0)
    shrink = [max(1, round(shrink_mm / s)) for s in image.spacing_mm]
    small = sitk.Shrink(whole, shrink)
    small_mask = sitk.Shrink(_itk(signal.astype(np.uint8), image), shrink)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(list(iterations))
    n4.SetConvergenceThreshold(_THRESHOLD)
    n4.SetNumberOfControlPoints([_CONTROL_POINTS] * 3)
    n4.Execute(small, small_mask)
    log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(whole)).T
    inside = log_field[mask]
    low, high = float(inside.min()), float(inside.max())
    clipped = np.clip(log_field, low, high)
    field: Volume = np.exp(clipped, dtype=np.float32)
    field /= np.float32(field[mask].mean(dtype=np.float64))
    return np.ascontiguousarray(field)


def _itk(voxels: np.ndarray[Any, Any], image: Image) -> sitk.Image:
    """Where the image lies does not matter to the field; the voxel sizes do."""
    import SimpleITK as sitk  # noqa: N813

    itk = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    itk.SetSpacing(image.spacing_mm)
    return itk
