"""From heatmap and faces to a few boxes with scores."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from shared_model.detection.detector import DetectionOutput
from shared_model.metrics.boxes import suppressed
from shared_model.metrics.detection import Found

_PEAK = 3  # voxels: a centre is the largest of its neighbourhood
_LARGEST = 40.0  # voxels: no face lies further from a centre


@torch.no_grad()
def detections(
    output: DetectionOutput, most: int = 50, least_score: float = 0.02, overlap: float = 0.1
) -> list[Found]:
    """Boxes of each scan, best first.

    Args:
        output: of B scans.
        most: peaks that are looked at.
        least_score: of a peak.
        overlap: IoU above which the worse of two boxes is left out (3D non-maximum suppression).
    """
    heat = output.heatmap.float()
    peaks = heat * (functional.max_pool3d(heat[:, None], _PEAK, 1, _PEAK // 2)[:, 0] == heat)
    out = []
    for row in range(len(heat)):
        scores, flat = peaks[row].flatten().topk(min(most, peaks[row].numel()))
        flat, scores = flat[scores >= least_score], scores[scores >= least_score]
        where = torch.stack(torch.unravel_index(flat, heat.shape[1:]), 1)
        faces = output.faces[row][:, where[:, 0], where[:, 1], where[:, 2]].T.float()
        reach = faces.exp().clamp(max=_LARGEST)
        middle = where + 0.5
        boxes = torch.cat([middle - reach[:, :3], middle + reach[:, 3:]], 1)
        found = boxes.double().cpu().numpy(), scores.double().cpu().numpy()
        kept = suppressed(*found, overlap)
        out.append(Found(found[0][kept], np.asarray(found[1][kept])))
    return out
