"""How well a registered brain and the template's meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from client.preprocessing.image import Affine, Mask, Volume
from client.preprocessing.pyramid import brain_only, level
from client.preprocessing.template import Template, mni_template

# Both brains are looked at at this resolution, this far around the template.
_GATE_MM = 2.0
_GATE_MARGIN_MM = 24.0


@dataclass(frozen=True)
class Agreement:
    """How well a scan's brain and the template's meet.

    Attributes:
        dice: of the two brain masks.
        correlation: Pearson's, over the union of the masks; greys outside a mask are 0.
    """

    dice: float
    correlation: float


def agreement(voxels: Volume, mask: Mask, affine: Affine, to_mni: Affine) -> Agreement:
    """Dice and correlation of a scan's brain with the template's, at 2 mm in MNI space.

    Args:
        voxels: ``(I, J, K)`` greys.
        mask: ``(I, J, K)`` the brain.
        affine: ``(4, 4)`` voxel to scanner mm.
        to_mni: ``(4, 4)`` scanner mm to MNI mm.
    """
    points, greys, inside = _template_points()
    back = torch.from_numpy(np.linalg.inv(to_mni))
    brain = brain_only(voxels, mask)
    values = level(brain, affine, _GATE_MM).at(points, back)
    there = level(mask.astype(np.float32), affine, _GATE_MM).at(points, back) > 0.5
    # The whole of the scan's brain counts, also what was moved out of sight of these points.
    mapped = mask.sum() * abs(np.linalg.det((to_mni @ affine)[:3, :3])) / _GATE_MM**3
    dice = 2 * float((inside & there).sum()) / (float(inside.sum()) + float(mapped))
    union = inside | there
    a, b = (torch.where(m, v, 0.0)[union] for m, v in ((inside, greys), (there, values)))
    a, b = a - a.mean(), b - b.mean()
    return Agreement(dice, float((a * b).sum() / torch.sqrt((a * a).sum() * (b * b).sum() + 1e-9)))


def _template_points() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points ``(N, 3)`` around the template, MNI mm; its greys and its mask ``(N,)`` there."""
    template: Template = mni_template()
    side = np.array(template.mask.shape) + 2 * _GATE_MARGIN_MM
    index = np.indices(tuple(np.ceil(side / _GATE_MM).astype(int).tolist())).reshape(3, -1).T
    corner = template.affine[:3, 3] - _GATE_MARGIN_MM
    points = torch.from_numpy((corner + index * _GATE_MM).astype(np.float32))
    here = torch.eye(4, dtype=torch.float64)
    greys = level(template.brain, template.affine, _GATE_MM).at(points, here)
    mask = level(template.mask.astype(np.float32), template.affine, _GATE_MM).at(points, here)
    return points, greys, mask > 0.5
