"""Heads for quality control's tests, from the public template: known tissue, noise and place."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, binary_dilation, gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from client.prepared.brain_mask import brain_prior
from client.preprocessing.image import Image, Mask, Volume, Work
from client.quality.header import HeaderFacts
from client.quality.scan_measures import ScanMeasures
from shared_model.atlas.tissue import load_tissue_maps
from shared_model.grid import ModelGrid

GRID = ModelGrid(spacing_mm=2.0)
SHA = "ab" * 32

HEADER = HeaderFacts(
    orientation="LAS",
    spacing_mm=(1.0, 1.0, 1.0),
    shape=(176, 208, 176),
    oblique_degrees=0.0,
    dtype="int16",
    scaled=False,
    grey_levels=500,
    handedness_disagrees=False,
)


@lru_cache(maxsize=1)
def template() -> tuple[Volume, Mask]:
    """The MNI152 brain on the 2 mm grid, greys 0 to 1, and its mask."""
    maps = load_tissue_maps()
    index = np.indices(GRID.shape).reshape(3, -1)
    mm = GRID.affine[:3, :3] @ index + GRID.affine[:3, 3:]
    at = np.linalg.solve(maps.affine[:3, :3], mm - maps.affine[:3, 3:])
    greys = map_coordinates(maps.t1.astype(np.float32) / 255, at, order=1).reshape(GRID.shape)
    return greys.astype(np.float32), brain_prior(GRID).brain


@lru_cache(maxsize=1)
def labels() -> npt.NDArray[np.int64]:
    """0 outside the template's brain, 1 fluid, 2 grey, 3 white, on the 2 mm grid."""
    maps = load_tissue_maps()
    index = np.indices(GRID.shape).reshape(3, -1)
    mm = GRID.affine[:3, :3] @ index + GRID.affine[:3, 3:]
    at = np.linalg.solve(maps.affine[:3, :3], mm - maps.affine[:3, 3:])
    grey, white = (
        map_coordinates(m.astype(np.float32) / 255, at, order=1).reshape(GRID.shape)
        for m in (maps.gm, maps.wm)
    )
    fluid = 1 - grey - white
    return np.where(brain_prior(GRID).brain, 1 + np.argmax([fluid, grey, white], axis=0), 0)


def flat_head(
    noise: float = 0.05,
    greys: tuple[float, float, float, float] = (0.0, 0.3, 0.6, 1.0),
    skull: bool = True,
    seed: int = 0,
) -> Work:
    """A registered head of constant tissues with Gaussian noise in the head and Rician in the air.

    Args:
        noise: its standard deviation, in parts of white matter.
        greys: of air, fluid, grey and white matter.
        skull: also a dim scalp around the brain; else everything but the brain is exactly zero.
    """
    rng = np.random.default_rng(seed)
    brain = brain_prior(GRID).brain
    clean = np.asarray(greys)[labels()]
    if skull:
        clean[binary_dilation(brain, iterations=5) & ~brain] = 0.4
    real, imaginary = rng.normal(0, noise, (2, *GRID.shape))
    voxels = np.hypot(clean + real, imaginary)
    if not skull:
        voxels[~brain] = 0
    return registered(voxels.astype(np.float32), brain)


def registered(voxels: Volume, brain: Mask) -> Work:
    """A scan that lies on the model grid already."""
    found = {"registration_dice": 0.95, "registration_correlation": 0.65}
    return Work(Image(voxels, GRID.affine), brain, np.eye(4), voxels, brain, found)


def person(seed: int) -> tuple[Volume, Mask]:
    """The template with folds of its own: a smooth random warp of 3 mm, and its own greys."""
    greys, brain = template()
    rng = np.random.default_rng(seed)
    warp = np.stack([gaussian_filter(rng.normal(size=GRID.shape), 3.0) for _ in range(3)])
    warp *= 1.5 / warp.std()
    warped = map_coordinates(greys, np.indices(GRID.shape) + warp, order=1)
    texture = gaussian_filter(rng.normal(size=GRID.shape), 2.0)
    warped = warped * (1 + 0.08 * texture / texture.std())
    return np.where(brain, warped, 0).astype(np.float32), brain


def rescanned(volume: Volume, seed: int) -> Volume:
    """The same brain with another contrast, coil and noise, registered a little differently."""
    rng = np.random.default_rng(seed)
    matrix = Rotation.from_euler("xyz", rng.uniform(-0.8, 0.8, 3), degrees=True).as_matrix()
    centre = (np.array(volume.shape) - 1) / 2
    moved = affine_transform(volume, matrix, centre - matrix @ centre + 0.2, order=1)
    ramp = np.linspace(0.85, 1.15, volume.shape[0])[:, None, None]
    ramp = ramp * np.linspace(1.1, 0.9, volume.shape[2])[None, None]
    noise = rng.normal(0, 0.06, volume.shape)
    return (np.maximum(moved, 0) ** rng.uniform(0.8, 1.2) * ramp + noise).astype(np.float32)


def good_measures(**changes: object) -> ScanMeasures:
    """Measures of a scan that passes, with some changed."""
    values: dict[str, object] = {
        "header": HEADER,
        "already_stripped": False,
        "snr_white": 14.0,
        "snr_grey": 6.0,
        "cnr": 2.1,
        "cjv": 0.65,
        "white_over_grey": 1.4,
        "efc": 0.5,
        "noise_percent": 2.0,
        "background_zero_share": 0.1,
        "fber": 700.0,
        "smoothness_mm": 4.0,
        "brain_ml": 1450.0,
        "edge_faces": 0,
        "edge_cm2": 0.0,
        "dice": 0.955,
        "correlation": 0.66,
        "centre_shift_mm": 0.6,
        "determinant": 1.3,
        "stretch": 1.1,
        "rotation_degrees": 8.0,
        "lost_share": 0.0005,
    }
    return ScanMeasures.model_validate({**values, **changes})
