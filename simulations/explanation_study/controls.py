"""Could the diagnosis be read off the outline of the brain? Linear read-outs of simpler images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.ndimage import binary_erosion
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from client.prepared.intensity import BACKGROUND
from shared_model.explanation.figures import Control
from shared_model.explanation.relevance import Map, Mask
from shared_model.metrics import balanced_accuracy
from shared_model.smrnet.model import SMRNet
from simulations.explanation_study.localising import interval
from simulations.explanation_study.subjects import Subject

_INSIDE = 0.0


def brain_of(volume: Map) -> Mask:
    """The scan's own brain mask, as preparation found it."""
    return volume > BACKGROUND


def binarised(volume: Map) -> Map:
    """One grey inside the brain: nothing but its mask is left."""
    return np.where(brain_of(volume), _INSIDE, BACKGROUND).astype(np.float32)


def outline(volume: Map) -> Map:
    """The outermost voxel of the brain alone (Tinauer et al. 2025)."""
    brain = brain_of(volume)
    return np.where(brain & ~binary_erosion(brain), _INSIDE, BACKGROUND).astype(np.float32)


Made = Callable[[Map], Map]
WHOLE = "whole scan"
INPUTS: dict[str, Made] = {
    WHOLE: lambda volume: volume,
    "binarised mask": binarised,
    "outline only": outline,
}


@torch.no_grad()
def features(model: SMRNet, subjects: Sequence[Subject], made: Made) -> np.ndarray:
    """``(N, F)`` region tokens of scans, flattened: the frozen public half of the network."""
    rows = []
    for subject in subjects:
        if made is INPUTS[WHOLE]:
            tokens = subject.tokens
        else:
            tokens = model.tokenise(torch.from_numpy(made(subject.volume))[None, None])
        rows.append(tokens.regions.flatten().double().numpy())
    return np.stack(rows)


def control(
    what: str,
    model: SMRNet,
    train: Sequence[Subject],
    test: Sequence[Subject],
    seed: int,
) -> Control:
    """Train a linear read-out on one kind of image and test it on the same kind."""
    made = INPUTS[what]
    x = features(model, train, made)
    scale = StandardScaler().fit(x)
    fitted = LogisticRegression(C=0.001, class_weight="balanced", max_iter=2000)
    fitted.fit(scale.transform(x), [subject.label for subject in train])
    found = fitted.predict_proba(scale.transform(features(model, test, made)))
    labels = np.asarray([subject.label for subject in test])
    draws = np.random.default_rng(seed).integers(0, len(test), (500, len(test)))
    values = [balanced_accuracy(labels[d], found[d]) for d in draws]
    low, high = np.nanquantile(values, [0.025, 0.975])
    centre = interval([balanced_accuracy(labels, found)])
    return Control(
        what=what,
        patients=len(test),
        balanced_accuracy=centre.model_copy(update={"low": float(low), "high": float(high)}),
    )
