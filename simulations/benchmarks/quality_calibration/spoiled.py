"""What quality control says about heads that were spoiled on purpose."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from client.preprocessing.image import Image, Volume, Work
from client.quality.limits import QualityLimits
from client.quality.measures import measure_scan
from client.quality.verdict import Result, judge_scan
from simulations.benchmarks.quality_calibration.changes import rician
from simulations.benchmarks.quality_calibration.prepared_heads import PreparedHead

_NOISE = (0.03, 0.06, 0.10, 0.20, 0.30)
_BLUR_MM = (3.0, 5.0, 8.0)
_GHOSTS = (0.10, 0.20, 0.40)


@dataclass(frozen=True)
class Spoiled:
    """One head after one kind of harm.

    Attributes:
        head, harm: which.
        result: the verdict.
        final: whether nobody can accept it.
        reasons: ids.
        moved: measures that changed by more than a quarter of their value, new value by name.
    """

    head: str
    harm: str
    result: Result
    final: bool
    reasons: tuple[str, ...]
    moved: Mapping[str, float]


def spoil(head: PreparedHead, work: Work) -> Iterator[Spoiled]:
    """Spoil the greys after bias-field correction; mask and registration stay as they were.

    So this is about the measures and limits alone: the steps before may refuse such a scan, or
    find another mask in it, and the bias field's correction may undo the ramp.
    """
    header = head.measures.header
    before = None
    for harm, voxels in _harms(work):
        changed = replace(work, image=Image(voxels, work.image.affine), findings={})
        measures = measure_scan(changed, header, head.recipe.input.grid)
        verdict = judge_scan(measures, QualityLimits())
        values = _numbers(measures.model_dump(exclude={"header", "absent", "version"}))
        before = before or values
        yield Spoiled(
            head.name,
            harm,
            verdict.result,
            verdict.final,
            tuple(reason.id for reason in verdict.reasons),
            {k: v for k, v in values.items() if _differs(before.get(k), v)},
        )


def _harms(work: Work) -> Iterator[tuple[str, Volume]]:
    voxels, brain = work.image.voxels, work.brain
    assert brain is not None
    white = float(np.percentile(voxels[brain], 85))
    rng = np.random.default_rng(zlib.crc32(voxels.tobytes()))
    yield "nothing", voxels
    for part in _NOISE:
        yield f"noise of {part:.0%} of white matter", rician(voxels, part * white, rng)
    for width in _BLUR_MM:
        sigma = width / 2.355 / np.array(work.image.spacing_mm)
        yield f"blur of {width:g} mm", gaussian_filter(voxels, sigma)
    rows = voxels.shape[1]
    for part in _GHOSTS:
        ghosts = np.roll(voxels, rows // 5, axis=1) + np.roll(voxels, -rows // 7, axis=1)
        yield f"two ghosts of {part:.0%}", (voxels + np.float32(part) * ghosts)
    turned = np.maximum(1.3 * white - voxels, 0) * (voxels > 0.1 * white)
    yield "T2-like contrast", np.where(voxels > 0, turned, 0).astype(np.float32)
    ramp = np.linspace(0.5, 1.5, rows, dtype=np.float32)[None, :, None]
    yield "ramp of 50 %, not corrected", voxels * ramp


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float)}


def _differs(before: float | None, now: float) -> bool:
    return before is not None and abs(now - before) > 0.25 * max(abs(before), 1e-3)
