"""What a scanner does to a clean volume: contrast, coil, blur, noise and scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from simulations.cohort.spec import ScannerModel, Triple
from simulations.cohort.template import CSF, GREY, WHITE, Image

_SIGMA_PER_FWHM = 1 / 2.3548200450309493
_BIAS_MODES = 4


def apply_scanner(
    volume: npt.NDArray[np.floating],
    scanner: ScannerModel,
    rng: np.random.Generator,
    voxel_mm: Triple = (2.0, 2.0, 2.0),
) -> Image:
    """Turn a clean volume into a scan; about 0.1 s at 2 mm, geometry untouched.

    Tissue curve, gamma, log-normal bias field and coil gain, anisotropic blur, Rician noise inside
    the head, scale. Voxels outside the head stay 0, as skull stripping leaves them.

    Args:
        volume: ``(X, Y, Z)`` canonical greys, 0 outside the head.
        scanner: the scanner.
        rng: bias, noise and scale of this scan.
        voxel_mm: voxel size along the array's axes.

    Returns:
        ``(X, Y, Z)`` float32, white matter near ``scanner.scale``.
    """
    head = volume > 0
    if not head.any():
        return np.zeros(volume.shape, dtype=np.float32)
    box = _bounding_box(head)
    part, mask = np.asarray(volume[box], dtype=np.float32), head[box]
    image = tissue_curve(part, scanner)
    image *= np.exp(bias_field(image.shape, scanner, rng))
    for axis, (fwhm, side) in enumerate(zip(scanner.blur_fwhm_mm, voxel_mm, strict=True)):
        if fwhm > 0:
            image = gaussian_filter1d(image, fwhm * _SIGMA_PER_FWHM / side, axis=axis, truncate=3.0)
    if scanner.noise > 0:
        real, imaginary = (
            rng.standard_normal(image.shape, dtype=np.float32) * np.float32(scanner.noise)
            for _ in range(2)
        )
        image = np.sqrt((image + real) ** 2 + imaginary**2)
    image *= np.float32(scanner.scale * np.exp(rng.normal(0, scanner.scale_spread)))
    scan = np.zeros(volume.shape, dtype=np.float32)
    scan[box] = image * mask
    return scan


def tissue_curve(volume: Image, scanner: ScannerModel) -> Image:
    """Monotone map of canonical greys to the scanner's, then gamma; 0 stays 0."""
    knots = (0.0, CSF, GREY, WHITE, 1.2)
    values = (
        0.0,
        scanner.csf,
        scanner.grey,
        scanner.white,
        scanner.white + (scanner.white - scanner.grey) / 2,
    )
    levels = np.linspace(0, 1.2, 481)
    table = np.interp(levels, knots, values) ** scanner.gamma
    # A table look-up: ten times faster than interpolating every voxel.
    index = np.rint(np.clip(volume, 0, 1.2) * (480 / 1.2)).astype(np.intp)
    image: Image = table.astype(np.float32)[index]
    return image


def bias_field(shape: tuple[int, ...], scanner: ScannerModel, rng: np.random.Generator) -> Image:
    """Log gain of the shape: smooth random part of the scan, plus the scanner's linear part."""
    basis = [
        np.cos(np.pi * np.outer(np.arange(side) + 0.5, np.arange(_BIAS_MODES)) / side)
        for side in shape
    ]
    order = np.add.outer(np.add.outer(*(2 * [np.arange(_BIAS_MODES)])), np.arange(_BIAS_MODES))
    modes = rng.standard_normal((_BIAS_MODES,) * 3) / (1.0 + order) ** 1.5
    modes[0, 0, 0] = 0.0
    field = np.einsum("abc,xa->xbc", modes, basis[0])
    field = np.einsum("xbc,yb->xyc", field, basis[1])
    smooth: Image = np.einsum("xyc,zc->xyz", field, basis[2]).astype(np.float32)
    smooth *= np.float32(scanner.bias / max(float(smooth.std()), 1e-6))
    for axis, slope in enumerate(scanner.coil):
        line = slope * np.linspace(-1, 1, shape[axis])
        smooth += line.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    return smooth


def random_scanner(rng: np.random.Generator) -> ScannerModel:
    """A scanner from a wide range: for public pretraining and augmentation, tied to no site."""
    csf = float(rng.uniform(0.08, 0.36))
    grey = float(rng.uniform(max(0.48, csf + 0.2), 0.78))
    blur = np.zeros(3)
    kind = rng.integers(4)
    if kind == 1:
        blur[:] = rng.uniform(1, 3)
    elif kind == 2:
        blur[rng.integers(3)] = rng.uniform(1.5, 4.5)
    elif kind == 3:
        blur[:] = rng.uniform(0.5, 3.5, 3)
    return ScannerModel(
        csf=csf,
        grey=grey,
        white=float(rng.uniform(max(0.84, grey + 0.08), 1.0)),
        gamma=float(np.exp(rng.uniform(np.log(0.72), np.log(1.4)))),
        bias=float(rng.uniform(0.02, 0.2)),
        coil=_triple(rng.normal(0, 0.06, 3)),
        noise=float(np.exp(rng.uniform(np.log(0.01), np.log(0.07)))),
        blur_fwhm_mm=_triple(blur),
        scale=float(np.exp(rng.uniform(np.log(60), np.log(4000)))),
    )


def _triple(values: npt.NDArray[np.float64]) -> Triple:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    sides = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(sides)
