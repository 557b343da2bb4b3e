"""Volumes whose sides do not divide by the strides of a network."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

#: What prepared volumes hold outside the brain (client.prepared.intensity.BACKGROUND).
BACKGROUND = -4.0


def centred_background(x: Tensor) -> Tensor:
    """Zero, the median of the brain, for what is background.

    Norms over a whole volume would otherwise see little else than the step from -4 to the brain.
    """
    return x * (x > BACKGROUND)


def padded(x: Tensor, multiple: int) -> Tensor:
    """``(B, C, D, H, W)`` with zeros added at the far ends, to sides that divide."""
    pad: list[int] = []
    for side in reversed(x.shape[2:]):
        pad += [0, -side % multiple]
    return functional.pad(x, pad) if any(pad) else x


def cropped(y: Tensor, like: Tensor) -> Tensor:
    """``y`` without what :func:`padded` added to ``like``."""
    d, h, w = like.shape[2:]
    return y[:, :, :d, :h, :w]
