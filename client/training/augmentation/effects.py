"""Effects of scanner and pose on greys in [0, 1], each with explicit parameters."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d

Greys = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float64]
Triple = tuple[float, float, float]

#: Cosine modes of the bias field per axis, the constant one included.
BIAS_MODES = 4
_SIGMA_PER_FWHM = 1 / 2.3548200450309493


def move(greys: Greys, brain: Mask, matrix: Matrix) -> tuple[Greys, Mask]:
    """Move a scan, linearly interpolated.

    Args:
        greys: ``(D, H, W)``.
        brain: ``(D, H, W)``.
        matrix: ``(4, 4)`` from new to old voxels, both counted from the centre of the volume.
    """
    both = torch.from_numpy(np.stack([greys, brain.astype(np.float32)]))
    # Its package takes seconds to import, and most plans augment nothing.
    from monai.transforms import Affine

    moved = Affine(affine=matrix, mode="bilinear", padding_mode="border", image_only=True)(both)
    out: Greys = np.asarray(moved, dtype=np.float32)
    return out[0], out[1] >= 0.5


def pose_matrix(rotation_deg: Triple, shift_mm: Triple, scale: Triple, spacing_mm: float) -> Matrix:
    """``(4, 4)`` from new to old voxels about the centre: rotations x, y, z, scales and shift."""
    matrix = np.eye(4)
    for axis, degrees in enumerate(rotation_deg):
        turn = np.eye(4)
        a, b = [other for other in range(3) if other != axis]
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        matrix = matrix @ turn
    matrix = matrix @ np.diag([*scale, 1.0])
    matrix[:3, 3] = np.asarray(shift_mm) / spacing_mm
    return np.asarray(matrix, dtype=np.float64)


def bias_field(shape: tuple[int, ...], modes: Matrix, rms: float) -> Greys:
    """``(D, H, W)`` smooth positive gain; its log has mean 0 over the volume and root mean square
    ``rms``.

    Args:
        shape: of the volume.
        modes: ``(M, M, M)`` weights of cosine modes; the constant one is ignored.
        rms: of the natural logarithm.
    """
    count = len(modes)
    basis = [
        np.cos(np.pi * np.outer(np.arange(side) + 0.5, np.arange(count)) / side) for side in shape
    ]
    order = np.add.outer(np.add.outer(np.arange(count), np.arange(count)), np.arange(count))
    weights = modes / (1.0 + order) ** 1.5
    weights[0, 0, 0] = 0.0
    # The modes are orthogonal on the voxel centres: mean square 1 for the constant, 1/2 otherwise.
    halves = np.where(np.arange(count) > 0, 0.5, 1.0)
    square = float((weights**2 * halves[:, None, None] * halves[:, None] * halves).sum())
    weights *= rms / max(square, 1e-12) ** 0.5
    # einsum without BLAS: the same bits for every number of threads.
    part = np.einsum("abc,xa->xbc", weights, basis[0]).astype(np.float32)
    part = np.einsum("xbc,yb->xyc", part, basis[1].astype(np.float32))
    field: Greys = np.einsum("xyc,zc->xyz", part, basis[2].astype(np.float32))
    return np.exp(field, out=field)


def blur(greys: Greys, fwhm_mm: Triple, spacing_mm: float) -> Greys:
    """Gaussian point spread, its full width at half maximum per axis in mm."""
    for axis, fwhm in enumerate(fwhm_mm):
        sigma = fwhm * _SIGMA_PER_FWHM / spacing_mm
        if sigma > 0.1:  # narrower than that, the kernel is one voxel
            greys = gaussian_filter1d(greys, sigma, axis=axis, mode="nearest", truncate=3.0)
    return greys


def sample_slices(greys: Greys, axis: int, slice_mm: float, spacing_mm: float) -> Greys:
    """The scan in slices of ``slice_mm`` along ``axis``: blurred by their profile, then sampled.

    The profile's variance is what brings the grid's point spread to that of the slice (Cardoso et
    al. 2015), as in preparation.
    """
    profile = max(slice_mm**2 - spacing_mm**2, 0.0) ** 0.5
    fwhm = [0.0, 0.0, 0.0]
    fwhm[axis] = profile
    smooth = blur(greys, (fwhm[0], fwhm[1], fwhm[2]), spacing_mm)
    count = max(2, round(greys.shape[axis] * spacing_mm / slice_mm))
    return _interpolate(smooth, axis, count)


def rejoin_slices(slices: Greys, axis: int, count: int) -> Greys:
    """Interpolate linearly along ``axis`` back to ``count`` voxels."""
    return _interpolate(slices, axis, count)


def add_noise(
    greys: Greys, sd: float, kind: Literal["rician", "gaussian"], stream: np.random.Generator
) -> Greys:
    """Noise of standard deviation ``sd``; Rician: the magnitude of a complex signal with it."""
    noisy: Greys = stream.standard_normal(greys.shape, dtype=np.float32)
    noisy *= np.float32(sd)
    noisy += greys
    if kind == "gaussian":
        return noisy
    imaginary = stream.standard_normal(greys.shape, dtype=np.float32)
    imaginary *= np.float32(sd)
    return np.hypot(noisy, imaginary, out=noisy)


def _interpolate(greys: Greys, axis: int, count: int) -> Greys:
    """Linear interpolation to ``count`` cells that cover the same length, constant beyond ends."""
    old = greys.shape[axis]
    if old == 1:
        return np.repeat(greys, count, axis)
    position = np.clip((np.arange(count) + 0.5) * old / count - 0.5, 0, old - 1)
    lower = np.minimum(position.astype(np.intp), old - 2)
    shape = [-1 if a == axis else 1 for a in range(3)]
    weight = (position - lower).astype(np.float32).reshape(shape)
    out: Greys = np.take(greys, lower, axis) * (1 - weight)
    out += np.take(greys, lower + 1, axis) * weight
    return out
