"""How alike the fingerprints of one head, and of different people, are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product

import numpy as np
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from client.preprocessing.image import Mask, Step, Volume
from client.quality.fingerprint import Fingerprint, fingerprint, mirrored
from shared_model.grid import ModelGrid
from simulations.benchmarks.quality_calibration.changes import ExportAgain, MirrorInFile, ScanAgain
from simulations.benchmarks.quality_calibration.prepared_heads import OnGrid, PreparedHead
from simulations.benchmarks.quality_calibration.span import Span

#: Fingerprints of a head, by what was done to it before it was registered again.
Prints = Mapping[str, Fingerprint]
AS_IT_IS, MIRRORED, COPY, RESCAN = "as it is", "mirrored", "copy", "rescan"
#: What shows the same head the right way round.
SAME = (AS_IT_IS, COPY, RESCAN)
_CHANGES: Mapping[str, tuple[Step, ...]] = {
    MIRRORED: (MirrorInFile(),),
    COPY: (ExportAgain(),),
    RESCAN: (ExportAgain(), ScanAgain()),
}
# Directions in which a registration may be off, per head.
_DRAWS = 3


def changed_heads(head: PreparedHead) -> dict[str, OnGrid]:
    """The head after every change, registered again."""
    return {name: OnGrid.of(head.work(*steps)) for name, steps in _CHANGES.items()}


def head_prints(head: PreparedHead, changed: Mapping[str, OnGrid]) -> dict[str, Fingerprint]:
    """Fingerprints of a head and of what :func:`changed_heads` made of it."""
    grid = head.recipe.input.grid
    prints = {name: fingerprint(one.volume, one.brain, grid) for name, one in changed.items()}
    return {AS_IT_IS: head.fingerprint, **prints}


def registered_again(prints: Sequence[Prints]) -> dict[str, Span | None]:
    """Correlations after what somebody may do to a file, and between different people."""
    pairs = list(combinations(prints, 2))
    kinds = list(product(SAME, SAME))
    return {
        "different people": Span.of(_alike(a[k], b[m]) for a, b in pairs for k, m in kinds),
        "different people, one mirrored": Span.of(
            _alike(a[k], mirrored(b[m])) for a, b in pairs for k, m in kinds
        ),
        "copy: turned, 1.3 mm, 900 greys": Span.of(_alike(p[AS_IT_IS], p[COPY]) for p in prints),
        "rescan: also gamma, coil, 5 % noise, tighter mask": Span.of(
            _alike(p[AS_IT_IS], p[RESCAN]) for p in prints
        ),
        "mirrored in the file, compared mirrored": Span.of(
            _alike(p[AS_IT_IS], mirrored(p[MIRRORED])) for p in prints
        ),
    }


def on_the_grid(heads: Sequence[OnGrid], grid: ModelGrid, seed: int) -> dict[str, Span | None]:
    """Correlations of a head with itself after changes on the model grid, without a new search."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for head in heads:
        own = fingerprint(head.volume, head.brain, grid)
        for name, changed, mask in _changed(head.volume, head.brain, grid, rng):
            found.setdefault(name, []).append(_alike(own, fingerprint(changed, mask, grid)))
    return {name: Span.of(values) for name, values in found.items()}


def _changed(
    volume: Volume, brain: Mask, grid: ModelGrid, rng: np.random.Generator
) -> Iterator[tuple[str, Volume, Mask]]:
    white = float(np.percentile(volume[brain], 90))
    noise = rng.normal(0, 0.15 * white, volume.shape)
    yield "15 % noise", (volume + noise).astype(np.float32), brain
    for size, scale in ((1.0, 1.0), (2.0, 1.02)):
        name = f"registration off by {size:g} mm, {size:g} degrees, {100 * (scale - 1):.0f} %"
        for _ in range(_DRAWS):
            matrix, offset = _off(size, scale, grid, rng)
            moved = affine_transform(volume, matrix, offset, order=1)
            mask = affine_transform(brain.astype(np.float32), matrix, offset, order=1) > 0.5
            yield name, moved, mask


def _off(
    size: float, scale: float, grid: ModelGrid, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A turn by so many degrees and a shift by so many mm, both in random directions."""
    axis, direction = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    matrix = scale * Rotation.from_rotvec(axis * size, degrees=True).as_matrix()
    centre = (np.array(grid.shape) - 1) / 2
    return matrix, centre - matrix @ centre + direction * size / grid.spacing_mm


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    return float(one.astype(np.float32) @ other.astype(np.float32))
