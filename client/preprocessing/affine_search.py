"""The affine map between a brain and the template that makes their greys correlate most.

From coarse to fine with LBFGS and exact gradients; in double precision for the parameters, single
for the voxels, always on one core: thousands of small sums, which threads would only slow down and
round apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import permutations, product

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from client.preprocessing.affine_model import AffineModel
from client.preprocessing.image import Affine, Mask, Volume
from client.preprocessing.pyramid import Level, brain_only, level
from client.preprocessing.template import mni_template

# The correlation is taken this far around the template's brain, so that an edge costs.
_AROUND_MM = 12.0
# Heads lie flexed or extended by up to this much; each start is tried at the coarsest level.
_PITCHES_DEGREES = (0.0, -15.0, 15.0, -30.0, 30.0)
_START_ITERATIONS = 25
_ITERATIONS = 60
# Other orientations are looked for at these resolutions, the second for the best few of them.
_TURNED_MM = (8.0, 4.0)
_TURNED_KEPT = 2
_TURNED_ITERATIONS = 15
_SEED = 20261121
_SMALLEST_SCALE, _LARGEST_SCALE = 0.7, 1.5


class AffineSearch:
    """The search for one brain.

    Args:
        voxels: ``(I, J, K)`` greys of the scan.
        mask: ``(I, J, K)`` its brain, not empty.
        affine: ``(4, 4)`` voxel to scanner mm.
        degrees_of_freedom: 6, 9 or 12.

    Raises ValueError for a brain without signal.
    """

    def __init__(
        self, voxels: Volume, mask: Mask, affine: Affine, degrees_of_freedom: int = 12
    ) -> None:
        self._brain = brain_only(voxels, mask)
        self._affine = affine
        self._degrees_of_freedom = degrees_of_freedom
        self._levels: dict[float, Level] = {}
        template = mni_template()
        size = abs(np.linalg.det(affine[:3, :3])) * mask.sum() / template.mask.sum()
        self._scale = float(np.clip(np.cbrt(size), _SMALLEST_SCALE, _LARGEST_SCALE))
        self._centres = _centre(template.mask, template.affine), _centre(mask, affine)

    def best(self, levels_mm: Sequence[float]) -> Affine:
        """``(4, 4)`` scanner mm to MNI mm, from the header's orientation; determinant above 0.

        Args:
            levels_mm: resolutions, coarse to fine.
        """
        model = self._model()
        with _one_thread():
            starts = [
                self._descend(model, model.start(pitch), levels_mm[0], _START_ITERATIONS)
                for pitch in _PITCHES_DEGREES
            ]
            theta, _ = max(starts, key=lambda found: found[1])
            for spacing_mm in levels_mm:
                theta, _ = self._descend(model, theta, spacing_mm, _ITERATIONS)
        found: Affine = np.linalg.inv(model.matrix(theta).numpy())
        return found

    def turned(self) -> Affine:
        """The best map that starts from any of the 23 other orientations; coarse, for comparison.

        A header that names its axes wrongly shows here: turned, the brain fits better.
        """
        models = [self._model(turn) for turn in _turns()]
        coarse, fine = _TURNED_MM
        with _one_thread():
            starts = [
                (model, *self._descend(model, model.start(0.0), coarse, _TURNED_ITERATIONS))
                for model in models
            ]
            starts.sort(key=lambda start: -start[2])
            ends = [
                (model, *self._descend(model, theta, fine, _TURNED_ITERATIONS))
                for model, theta, _ in starts[:_TURNED_KEPT]
            ]
        model, theta, _ = max(ends, key=lambda end: end[2])
        found: Affine = np.linalg.inv(model.matrix(theta).numpy())
        return found

    def correlation(self, to_mni: Affine, spacing_mm: float = _TURNED_MM[1]) -> float:
        """What the search maximises, at one resolution."""
        points, fixed = _fixed_points(spacing_mm)
        back = torch.from_numpy(np.linalg.inv(to_mni))
        return float(_correlation(self._level(spacing_mm).at(points, back), fixed))

    def _model(self, turn: Affine | None = None) -> AffineModel:
        return AffineModel(*self._centres, self._scale, self._degrees_of_freedom, turn)

    def _level(self, spacing_mm: float) -> Level:
        if spacing_mm not in self._levels:
            self._levels[spacing_mm] = level(self._brain, self._affine, spacing_mm)
        return self._levels[spacing_mm]

    def _descend(
        self, model: AffineModel, start: torch.Tensor, spacing_mm: float, iterations: int
    ) -> tuple[torch.Tensor, float]:
        """LBFGS from a start: the parameters and the correlation there."""
        moving = self._level(spacing_mm)
        points, fixed = _fixed_points(spacing_mm)
        theta = start.clone().requires_grad_(True)
        optimiser = torch.optim.LBFGS(
            [theta],
            max_iter=iterations,
            history_size=12,
            tolerance_grad=1e-7,
            tolerance_change=1e-7,
            line_search_fn="strong_wolfe",
        )

        def correlation() -> torch.Tensor:
            return _correlation(moving.at(points, model.matrix(theta)), fixed)

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            value = -correlation()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            return theta.detach(), float(correlation())


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _correlation(values: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation with values that have mean 0 and length 1."""
    centred = values - values.mean()
    # A brain moved out of sight has no variance: correlation 0, and a finite gradient.
    return (centred * fixed).sum() / torch.sqrt((centred * centred).sum() + 1e-6)


@lru_cache(maxsize=6)
def _fixed_points(spacing_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Points ``(N, 3)`` in and around the template's brain, MNI mm, and its values there.

    The values have mean 0 and length 1.
    """
    template = mni_template()
    still = level(template.brain, template.affine, spacing_mm)
    corner = template.affine[:3, 3] - _AROUND_MM
    counts = np.ceil((np.array(template.brain.shape) + 2 * _AROUND_MM) / spacing_mm).astype(int)
    # Off the lattice: points in step with the scan's voxels would pull the optimum towards them.
    jitter = np.random.default_rng(_SEED).uniform(-0.5, 0.5, (int(np.prod(counts)), 3))
    index = np.indices(tuple(counts.tolist())).reshape(3, -1).T + jitter
    points = torch.from_numpy((corner + index * spacing_mm).astype(np.float32))
    values = still.at(points, torch.eye(4, dtype=torch.float64))
    inside = values.reshape(*counts).numpy() > 0.05
    near = distance_transform_edt(~inside, sampling=spacing_mm) <= _AROUND_MM
    chosen = torch.from_numpy(near.reshape(-1))
    fixed = values[chosen] - values[chosen].mean()
    return points[chosen], fixed / fixed.norm()


def _centre(mask: Mask, affine: Affine) -> Affine:
    """Centre of mass ``(3,)``, mm."""
    sums = [
        float(mask.sum(axis=tuple(a for a in range(3) if a != axis)) @ np.arange(side))
        for axis, side in enumerate(mask.shape)
    ]
    mean = np.array(sums) / float(mask.sum())
    centre: Affine = affine[:3, :3] @ mean + affine[:3, 3]
    return centre


@lru_cache(maxsize=1)
def _turns() -> tuple[Affine, ...]:
    """The 23 rotations, other than none, that take axes to axes."""
    found = [
        np.eye(3)[list(order)] * np.array(signs)
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    return tuple(t for t in found if np.linalg.det(t) > 0 and not np.array_equal(t, np.eye(3)))
