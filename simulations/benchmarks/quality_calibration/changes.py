"""What may happen to a head between two looks at it, as steps before its registration."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.ndimage import affine_transform, binary_erosion, gaussian_filter
from scipy.spatial.transform import Rotation

from client.preprocessing.image import Affine, Image, Volume, Work

_SIGMA_PER_FWHM = 1 / 2.3548200450309493


@dataclass(frozen=True)
class MirrorInFile:
    """Left and right of the voxels swapped under the same header."""

    name: ClassVar[str] = "mirror_in_file"
    version: ClassVar[int] = 1

    def parameters(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def __call__(self, work: Work) -> Work:
        """Flip the first axis of a RAS+ scan."""
        assert work.brain is not None
        voxels = np.ascontiguousarray(work.image.voxels[::-1])
        brain = np.ascontiguousarray(work.brain[::-1])
        return replace(work, image=Image(voxels, work.image.affine), brain=brain)


@dataclass(frozen=True)
class ExportAgain:
    """A copy that somebody turned, resampled and rounded.

    Args:
        degrees: about x, y and z; together 11.
        spacing_mm: of the new voxels.
        greys: different values that are left.
    """

    degrees: tuple[float, float, float] = (8, -4, 6)
    spacing_mm: float = 1.3
    greys: int = 900

    name: ClassVar[str] = "export_again"
    version: ClassVar[int] = 1

    def parameters(self) -> Mapping[str, Any]:
        """All of them."""
        return {"degrees": self.degrees, "spacing_mm": self.spacing_mm, "greys": self.greys}

    def __call__(self, work: Work) -> Work:
        """New voxels about the same centre, blurred to their own point spread first."""
        image, brain = work.image, work.brain
        assert brain is not None
        affine, shape = self._placed(image)
        to_old = np.linalg.inv(image.affine) @ affine
        widths = [max((self.spacing_mm / mm) ** 2 - 1, 0) ** 0.5 for mm in image.spacing_mm]
        blurred = gaussian_filter(image.voxels, np.array(widths) * _SIGMA_PER_FWHM)

        def resampled(volume: Volume) -> Volume:
            out: Volume = affine_transform(volume, to_old, output_shape=shape, order=1)
            return out

        voxels = resampled(blurred)
        voxels = np.round(voxels / voxels.max() * self.greys).astype(np.float32)
        mask = resampled(brain.astype(np.float32)) > 0.5
        return replace(work, image=Image(voxels, affine), brain=mask)

    def _placed(self, image: Image) -> tuple[Affine, tuple[int, ...]]:
        sides = zip(image.voxels.shape, image.spacing_mm, strict=True)
        # Room for what the turn brings out of the old field of view.
        shape = tuple(int(n * mm / self.spacing_mm) + 14 for n, mm in sides)
        affine = np.eye(4)
        turn = Rotation.from_euler("xyz", self.degrees, degrees=True).as_matrix()
        affine[:3, :3] = turn * self.spacing_mm
        middle = (np.array(image.voxels.shape) - 1) / 2
        centre = image.affine[:3, :3] @ middle + image.affine[:3, 3]
        affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return affine, shape


@dataclass(frozen=True)
class ScanAgain:
    """Another contrast, coil and noise, and a tighter mask: a simulated repeat scan.

    Args:
        gamma: of the greys in parts of white matter.
        ramp: coil sensitivity from 1 - ramp to 1 + ramp, along x and along z.
        noise: Rician, in parts of white matter.
    """

    gamma: float = 0.85
    ramp: float = 0.15
    noise: float = 0.05

    name: ClassVar[str] = "scan_again"
    version: ClassVar[int] = 1

    def parameters(self) -> Mapping[str, Any]:
        """All of them."""
        return {"gamma": self.gamma, "ramp": self.ramp, "noise": self.noise}

    def __call__(self, work: Work) -> Work:
        """The mask loses one voxel all around."""
        image, brain = work.image, work.brain
        assert brain is not None
        white = float(np.percentile(image.voxels[brain], 85))
        x, _, z = (np.linspace(1 - self.ramp, 1 + self.ramp, n) for n in brain.shape)
        greys = (np.maximum(image.voxels, 0) / white) ** self.gamma * x[:, None, None] * z
        # The same head, the same noise; another head, other noise.
        rng = np.random.default_rng(zlib.crc32(image.voxels.tobytes()))
        voxels = rician(greys.astype(np.float32), self.noise, rng)
        mask = binary_erosion(brain)
        return replace(work, image=Image(voxels, image.affine), brain=mask)


def rician(voxels: Volume, deviation: float, rng: np.random.Generator) -> Volume:
    """The magnitude of a signal with complex Gaussian noise (Gudbjartsson and Patz 1995)."""
    real, imaginary = rng.normal(0, deviation, (2, *voxels.shape))
    noisy: Volume = np.hypot(voxels + real, imaginary).astype(np.float32)
    return noisy
