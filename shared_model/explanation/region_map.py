"""Regions as voxel maps: read-out attention, and what each region says for a class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from shared_model.explanation.relevance import (
    Case,
    Floats,
    Map,
    Relevance,
    contrast,
    output_of,
)
from shared_model.smrnet.output import SMRNetOutput


def region_importance(case: Case) -> Relevance:
    """Read-out attention of every region: how loud it is, whatever it says.

    Raises TypeError for a model without regions.
    """
    weights = _output(case).region_importance[0].double().cpu().numpy()
    return Relevance("region_importance", spread(weights, case.labels))


def region_evidence(case: Case) -> Relevance:
    """``importance_r * contrast(evidence_r)``: what each region adds to the target class.

    The read-out is additive: logits are bias + planes + the sum of importance times evidence, so
    these numbers are exact parts of the output, not an approximation of it (additive MIL, Javed et
    al. 2022). Raises TypeError for a model without regions.
    """
    output = _output(case)
    parts = region_logits(output)[0]
    signed = contrast(parts, case.target).double().cpu().numpy()
    return Relevance("region_evidence", spread(np.abs(signed), case.labels), signed)


def region_logits(output: SMRNetOutput) -> Tensor:
    """``(B, R, C)`` logits that each region adds."""
    return output.region_importance[..., None] * output.region_evidence


def spread(values: npt.NDArray[np.floating], labels: npt.NDArray[np.int16]) -> Map:
    """Values ``(R,)`` of regions as a map ``(D, H, W)``: every voxel has its region's value.

    Not divided by the region's size: then a map that knows nothing (equal values) puts no more on
    small regions than their share of the brain, and does not seem to find the hippocampus.
    """
    return np.concatenate([[0.0], np.asarray(values, dtype=np.float64)])[labels].astype(np.float32)


def region_means(voxels: Map, labels: npt.NDArray[np.int16], regions: int) -> Floats:
    """``(R,)`` mean of a map in every region; the inverse of :func:`spread`."""
    flat = labels.ravel()
    sums = np.bincount(flat, voxels.ravel(), regions + 1)[1:]
    counts = np.bincount(flat, minlength=regions + 1)[1:]
    return np.asarray(sums / np.maximum(counts, 1), dtype=np.float64)


def _output(case: Case) -> SMRNetOutput:
    output = output_of(case)
    if not isinstance(output, SMRNetOutput):
        raise TypeError(f"{type(output).__name__} has no read-out over regions")
    return output
