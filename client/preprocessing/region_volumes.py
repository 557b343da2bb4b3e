"""How large each region of the atlas is in a scan, and how much of it is which tissue.

An affine map carries the atlas to the scan. It takes up size and shape of the whole head, not the
shape of one structure: a region's ``mm3`` mostly says where the atlas lies. What shrinks with
disease shows in the tissue inside it: ``gm_mm3`` falls and ``csf_mm3`` rises. See
docs/preprocessing.md for how well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from client.preprocessing.image import Affine, Mask, Work
from client.preprocessing.template import TEMPLATE_BRAIN_MM3
from client.preprocessing.tissue_classes import classify
from shared_model.atlas.atlas import Atlas

Volumes = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RegionVolumes:
    """Volumes in the native head, in mm3.

    Attributes:
        names: R region names in the atlas's order.
        mm3: ``(R,)`` brain inside the region.
        gm_mm3, wm_mm3, csf_mm3: ``(R,)`` its tissues; they sum to ``mm3``.
        brain_mask_mm3: the brain mask: brain with the fluid around it, where deepbet made it. What
            stands for the intracranial volume where volumes are divided by one.
        template_scaled_mm3: the template's brain over the determinant of the affine, the idea of
            eTIV (Buckner et al. 2004), but fitted to the brain and not to the skull.
        brain_gm_mm3, brain_wm_mm3, brain_csf_mm3: tissues of the whole mask.
        plausible: False where the tissues' greys are not in T1's order.
    """

    names: tuple[str, ...]
    mm3: Volumes
    gm_mm3: Volumes
    wm_mm3: Volumes
    csf_mm3: Volumes
    brain_mask_mm3: float
    template_scaled_mm3: float
    brain_gm_mm3: float
    brain_wm_mm3: float
    brain_csf_mm3: float
    plausible: bool

    def as_json(self) -> Mapping[str, Any]:
        """JSON values, rounded to 0.1 mm3."""
        rows = zip(self.names, self.mm3, self.gm_mm3, self.wm_mm3, self.csf_mm3, strict=True)
        keys = ("mm3", "gm_mm3", "wm_mm3", "csf_mm3")
        return {
            "brain_mask_mm3": round(self.brain_mask_mm3, 1),
            "template_scaled_mm3": round(self.template_scaled_mm3, 1),
            "brain_gm_mm3": round(self.brain_gm_mm3, 1),
            "brain_wm_mm3": round(self.brain_wm_mm3, 1),
            "brain_csf_mm3": round(self.brain_csf_mm3, 1),
            "tissues_plausible": self.plausible,
            "regions": {
                name: {k: round(float(v), 1) for k, v in zip(keys, values, strict=True)}
                for name, *values in rows
            },
        }


def region_volumes(work: Work, atlas: Atlas) -> RegionVolumes:
    """Volumes per region of a scan that has a brain, a corrected image and a registration.

    The atlas's labels are pulled back to the scan's voxels by nearest neighbour and cut with the
    scan's brain; each voxel counts with its native volume and its shares of the three tissues.

    Args:
        work: after bias field and registration.
        atlas: R regions, labels on any grid in MNI152 space.
    """
    image, brain, to_mni = work.image, work.brain, work.to_mni
    if brain is None or to_mni is None:
        raise ValueError("region volumes need the brain mask and the registration")
    voxel_mm3 = float(abs(np.linalg.det(image.affine[:3, :3])))
    labels = labels_at(brain, to_mni @ image.affine, atlas)
    tissues = classify(image, brain, to_mni)

    def per_region(weights: npt.NDArray[np.float32] | None) -> Volumes:
        counts = np.bincount(labels, weights, minlength=atlas.region_count + 1)
        volumes: Volumes = counts[1:].astype(np.float64) * voxel_mm3
        return volumes

    gm, wm, csf = tissues.gm, tissues.wm, tissues.csf
    return RegionVolumes(
        names=atlas.names,
        mm3=per_region(None),
        gm_mm3=per_region(gm),
        wm_mm3=per_region(wm),
        csf_mm3=per_region(csf),
        brain_mask_mm3=float(brain.sum()) * voxel_mm3,
        template_scaled_mm3=TEMPLATE_BRAIN_MM3 / float(np.linalg.det(to_mni[:3, :3])),
        brain_gm_mm3=float(gm.sum(dtype=np.float64)) * voxel_mm3,
        brain_wm_mm3=float(wm.sum(dtype=np.float64)) * voxel_mm3,
        brain_csf_mm3=float(csf.sum(dtype=np.float64)) * voxel_mm3,
        plausible=tissues.plausible,
    )


def labels_at(mask: Mask, voxel_to_mni: Affine, atlas: Atlas) -> npt.NDArray[np.int64]:
    """``(N,)`` the label at each voxel of a mask, in ``np.flatnonzero`` order; 0 is outside."""
    matrix = np.linalg.inv(atlas.affine) @ voxel_to_mni
    where = matrix[:3, :3] @ np.stack(np.nonzero(mask)) + matrix[:3, 3:]
    index = np.floor(where + 0.5 + 1e-6).astype(np.int64)
    shape = np.array(atlas.labels.shape)[:, None]
    inside = ((index >= 0) & (index < shape)).all(axis=0)
    labels = np.zeros(index.shape[1], dtype=np.int64)
    labels[inside] = atlas.labels[tuple(index[:, inside])]
    return labels
