"""Occlusion of atlas regions: what the output loses when a region looks like the public brain's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shared_model.explanation.region_map import spread
from shared_model.explanation.relevance import Case, Floats, Relevance


def occlusion(case: Case, batch: int = 4) -> Relevance:
    """:func:`region_drops` as a map."""
    drops = region_drops(case, batch)
    return Relevance("occlusion", spread(np.abs(drops), case.labels), drops)


@torch.no_grad()
def region_drops(case: Case, batch: int = 4) -> Floats:
    """``(R,)`` score of the scan minus its score with one region replaced by the baseline.

    One forward pass per region, ``batch`` at once. Unlike a grey box, the filling is a brain.
    """
    scan = case.volume[0, 0]
    filling = torch.from_numpy(np.array(case.baseline)).to(scan)
    labels = torch.from_numpy(np.array(case.labels)).to(scan.device)
    whole = case.score(case.volume)[0]
    drops: list[Tensor] = []
    for first in range(1, case.regions + 1, batch):
        numbers = range(first, min(first + batch, case.regions + 1))
        changed = torch.stack([torch.where(labels == n, filling, scan) for n in numbers])
        drops.append(whole - case.score(changed[:, None]))
    return np.asarray(torch.cat(drops).double().cpu().numpy())
