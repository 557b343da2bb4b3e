"""A head without download: the MNI152 brain on coarser voxels, moved as a test asks."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from client.preprocessing.image import Affine, Image, Work
from client.preprocessing.template import mni_template


def template_work(moved: Affine | None = None, spacing_mm: float = 2.0) -> Work:
    """The template's brain as a scan on RAS+ voxels; ``moved`` takes MNI mm to scanner mm."""
    template = mni_template()
    to_scan = np.eye(4) if moved is None else moved
    corners = np.array(np.meshgrid(*[[0, s] for s in template.mask.shape])).reshape(3, -1)
    there = (to_scan @ template.affine @ np.vstack([corners, np.ones(8)]))[:3]
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = there.min(axis=1) + 0.3
    shape = tuple(np.ceil(np.ptp(there, axis=1) / spacing_mm).astype(int))
    voxel = np.linalg.inv(to_scan @ template.affine) @ affine

    def on(volume: np.ndarray) -> np.ndarray:
        return affine_transform(volume, voxel[:3, :3], voxel[:3, 3], output_shape=shape, order=1)

    mask = on(template.mask.astype(np.float32)) > 0.5
    greys = np.where(mask, on(template.brain) * 800, 0).astype(np.float32)
    return Work(Image(greys, affine), mask)


def affine_of(
    degrees: tuple[float, float, float] = (0, 0, 0),
    scales: tuple[float, float, float] = (1, 1, 1),
    shift_mm: tuple[float, float, float] = (0, 0, 0),
) -> Affine:
    """``(4, 4)`` rotation after scaling, then the shift."""
    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scales)
    out[:3, 3] = shift_mm
    return out
