"""Deletion and insertion: does the output follow what the map calls relevant?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from shared_model.explanation.relevance import Case, Floats, Map, Mask, with_volumes

#: Shares of the brain that have been exchanged at the points of a curve.
SHARES = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the probability of the target, over the share of voxels exchanged.

    Attributes:
        deletion: the most relevant voxels are replaced by the public brain's first; low is good.
        insertion: they are put into the public brain first; high is good.
    """

    deletion: float
    insertion: float


def faithfulness(case: Case, voxels: Map, seed: int = 0) -> Faithfulness:
    """Both areas (Petsiuk et al. 2018), filled with a brain and not with grey.

    Ties are broken at random with ``seed``. 14 forward passes.
    """
    order = relevance_order(voxels, case.labels > 0, seed)
    scan = case.volume[0, 0].detach().cpu().numpy()
    return Faithfulness(
        deletion=_area(_curve(case, order, scan, case.baseline)),
        insertion=_area(_curve(case, order, case.baseline, scan)),
    )


def relevance_order(voxels: Map, brain: Mask, seed: int) -> np.ndarray:
    """Flat indices of the brain's voxels, the most relevant first."""
    index = np.flatnonzero(brain)
    index = np.random.default_rng(seed).permutation(index)
    return np.asarray(index[np.argsort(-voxels.ravel()[index], kind="stable")])


@torch.no_grad()
def _curve(case: Case, order: np.ndarray, start: Map, end: Map) -> Floats:
    rows = []
    for share in SHARES:
        changed = np.array(start, dtype=np.float32)
        chosen = order[: round(share * len(order))]
        changed.ravel()[chosen] = np.asarray(end, dtype=np.float32).ravel()[chosen]
        volume = torch.from_numpy(changed)[None, None].to(case.volume)
        logits = case.model(with_volumes(case.inputs, volume)).logits
        rows.append(float(logits.double().softmax(1)[0, case.target]))
    return np.asarray(rows)


def _area(values: Floats) -> float:
    return float(np.trapezoid(values, SHARES))
