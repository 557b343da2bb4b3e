"""A public brain as the plan's model would see it: the filling and the start of explanations."""

from __future__ import annotations

import numpy as np

from client.prepared.brain_mask import find_brain
from client.prepared.intensity import standardise
from client.prepared.resample import Volume, to_grid
from shared_model.atlas.tissue import load_tissue_maps
from shared_model.plan import InputSection


def public_brain(section: InputSection) -> Volume:
    """The MNI152 T1 brain ``(D, H, W)``, prepared with the plan's grid and intensities.

    It is the mean of 152 young adults and goes the way of every aligned scan: no patient of a
    hospital is in it. Raises SMR-E623 where nilearn does not bring the template.
    """
    maps = load_tissue_maps()
    on_grid = to_grid(maps.t1.astype(np.float32), maps.affine, section.grid)
    return standardise(on_grid, find_brain(on_grid, section.grid).mask, section.intensity)
