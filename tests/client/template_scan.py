"""The MNI152 brain as a prepared scan, for the tests of augmentation."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from client.prepared.intensity import standardise
from client.prepared.resample import to_grid
from shared_model.atlas.tissue import load_tissue_maps
from shared_model.grid import ModelGrid

COARSE = ModelGrid(spacing_mm=4.0)


@cache
def template_scan() -> npt.NDArray[np.float32]:
    """``(44, 52, 44)``; read-only."""
    maps = load_tissue_maps()
    greys = to_grid(maps.t1.astype(np.float32), maps.affine, COARSE)
    scan = standardise(greys, greys > 10)
    scan.setflags(write=False)
    return scan
