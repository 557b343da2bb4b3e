"""What drove a model's output, averaged over test patients and set beside the synthetic truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from shared_model.atlas.atlas import Atlas
from shared_model.explanation.region_map import region_logits
from shared_model.explanation.relevance import contrast
from shared_model.grid import ModelGrid
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.output import SMRNetOutput
from shared_model.smrnet.tokens import PLANES, Tokens
from simulations.cohort.atrophy import coefficients
from simulations.cohort.spec import EffectSpec
from simulations.report.results import (
    Explanations,
    PlaneAttention,
    Ratio,
    RegionImportance,
)

Floats = npt.NDArray[np.float64]
_BOOTSTRAP = 1000
# Regions whose volume the disease changes by a third or more: exp(-0.4) = 0.67.
_STRONG_LOG_CHANGE = 0.4


@dataclass(frozen=True, eq=False)
class _Maps:
    """Per-patient explanations: ``(N, R)`` twice, ``(N, R, S)`` and per plane ``(N, L_plane)``."""

    importance: Floats
    evidence: Floats
    fusion: Floats
    attention: dict[str, Floats]


def strongly_affected(names: Sequence[str], effect: EffectSpec) -> tuple[str, ...]:
    """Regions that the cohort prescribes a log volume change of at least 0.4 at full severity.

    The weaker changes reach half of the cortex, so attention on them would say little.
    """
    alpha = coefficients(tuple(names), effect.alpha)
    return tuple(name for name, a in zip(names, alpha, strict=True) if abs(a) >= _STRONG_LOG_CHANGE)


def explain(
    model: SMRNet,
    tokens: Sequence[Tokens],
    atlas: Atlas,
    grid: ModelGrid,
    atrophied: Sequence[str],
    seed: int,
) -> Explanations:
    """Explanations of test scans, with the mass they put on the truly atrophied regions.

    ``tokens`` holds one scan per patient; ``atlas`` lies on ``grid``; ``atrophied`` names regions.
    Chance is what a map without information would give: every region alike for region importance,
    every brain voxel alike for the voxel maps ``a_sagittal * a_coronal * a_axial`` and importance
    times evidence.
    """
    with torch.no_grad():
        maps = _maps([model.reason(part) for part in tokens])
    truth = np.asarray([name in set(atrophied) for name in atlas.names])
    labels = _at_slices(atlas.labels, maps)
    centres = _centres(atlas)
    slice_mass = _voxel_mass(maps, labels, truth)
    brain = labels > 0
    share = np.isin(labels, np.flatnonzero(truth) + 1).sum() / brain.sum()
    region_mass = maps.importance[:, truth].sum(1)
    return Explanations(
        patients=len(tokens),
        scales_mm=tuple(grid.spacing_mm * stride for stride in model.strides),
        regions=tuple(
            RegionImportance(
                name=name,
                importance=float(weight),
                chance=1 / len(atlas.names),
                centre_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
                is_atrophied=bool(flag),
            )
            for name, weight, centre, flag in zip(
                atlas.names, maps.importance.mean(0), centres, truth, strict=True
            )
        ),
        fusion_regions=tuple(
            tuple(float(np.clip(weight, 0, 1)) for weight in row) for row in maps.fusion.mean(0)
        ),
        planes=tuple(_plane(axis, maps, labels, truth, grid) for axis in range(len(PLANES))),
        slice_mass_ratio=_ratio(slice_mass / share, seed),
        region_mass_ratio=_ratio(region_mass / truth.mean(), seed),
        evidence_mass_ratio=_ratio(_evidence_mass(maps.evidence, atlas, truth), seed),
    )


def _maps(outputs: Sequence[SMRNetOutput]) -> _Maps:
    def joined(values: Sequence[torch.Tensor]) -> Floats:
        return torch.cat(list(values)).double().numpy()

    return _Maps(
        importance=joined([output.region_importance for output in outputs]),
        evidence=joined([_contributions(output) for output in outputs]),
        fusion=joined([output.fusion_regions for output in outputs]),
        attention={
            plane: joined([output.slice_attention[plane] for output in outputs]) for plane in PLANES
        },
    )


def _contributions(output: SMRNetOutput) -> torch.Tensor:
    """``(B, R)`` what each region adds to the contrast of the predicted class, in logits."""
    parts = region_logits(output)
    return torch.stack(
        [
            contrast(row, int(chosen))
            for row, chosen in zip(parts, output.logits.argmax(1), strict=True)
        ]
    )


def _evidence_mass(evidence: Floats, atlas: Atlas, truth: npt.NDArray[np.bool_]) -> Floats:
    """``(N,)`` mass over chance of the map whose voxels have their region's magnitude."""
    sizes = np.bincount(atlas.labels.ravel(), minlength=len(atlas.names) + 1)[1:]
    mass = np.abs(evidence) * sizes
    share = sizes[truth].sum() / sizes.sum()
    # A model that says nothing, as before training, is a constant map: chance.
    total = mass.sum(1)
    found = np.where(total > 0, mass[:, truth].sum(1) / np.where(total > 0, total, 1), share)
    return np.asarray(found / share)


def _at_slices(labels: npt.NDArray[np.int16], maps: _Maps) -> npt.NDArray[np.int16]:
    """The atlas at the resolution of the slices (nearest centre)."""
    counts = [maps.attention[plane].shape[1] for plane in PLANES]
    index = [
        np.minimum(((np.arange(count) + 0.5) * size / count).astype(int), size - 1)
        for count, size in zip(counts, labels.shape, strict=True)
    ]
    return labels[np.ix_(*index)]


def _voxel_mass(maps: _Maps, labels: npt.NDArray[np.int16], truth: npt.NDArray[np.bool_]) -> Floats:
    """``(N,)`` share of the voxel map inside the brain that lies in atrophied regions."""
    inside = np.isin(labels, np.flatnonzero(truth) + 1).astype(float)
    brain = (labels > 0).astype(float)
    sagittal, coronal, axial = (maps.attention[plane] for plane in PLANES)

    def total(mask: Floats) -> Floats:
        return np.asarray(
            np.einsum("nx,ny,nz,xyz->n", sagittal, coronal, axial, mask, optimize=True)
        )

    return total(inside) / total(brain)


def _plane(
    axis: int,
    maps: _Maps,
    labels: npt.NDArray[np.int16],
    truth: npt.NDArray[np.bool_],
    grid: ModelGrid,
) -> PlaneAttention:
    others = tuple(a for a in range(3) if a != axis)
    brain = (labels > 0).sum(others).astype(float)
    changed = np.isin(labels, np.flatnonzero(truth) + 1).sum(others).astype(float)
    step = grid.spacing_mm * grid.shape[axis] / len(brain)
    corner = grid.affine[axis, 3] - grid.spacing_mm / 2
    return PlaneAttention(
        plane=PLANES[axis],
        position_mm=tuple(float(corner + (i + 0.5) * step) for i in range(len(brain))),
        weight=tuple(float(w) for w in maps.attention[PLANES[axis]].mean(0)),
        chance=tuple(float(b) for b in brain / brain.sum()),
        truth=tuple(float(c) for c in changed / changed.sum()),
    )


def _centres(atlas: Atlas) -> Floats:
    """``(R, 3)`` centroid of every region, mm."""
    voxels = np.argwhere(atlas.labels > 0)
    region = atlas.labels[tuple(voxels.T)] - 1
    sums = np.stack(
        [np.bincount(region, voxels[:, axis], len(atlas.names)) for axis in range(3)], axis=1
    )
    mean = sums / np.bincount(region, minlength=len(atlas.names))[:, None]
    return np.asarray(mean @ atlas.affine[:3, :3].T + atlas.affine[:3, 3])


def _ratio(values: Floats, seed: int) -> Ratio:
    """Mean over patients with its percentile bootstrap interval."""
    rng = np.random.default_rng(seed)
    draws = values[rng.integers(0, len(values), (_BOOTSTRAP, len(values)))].mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Ratio(value=float(values.mean()), low=float(low), high=float(high))
