"""Which slices matter, separately in the sagittal, coronal and axial plane."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.smrnet.attention import GatedScore
from shared_model.smrnet.tokens import PLANES

# The prior is learnt in units of its own gain: a softmax over n tokens passes on only 1/n of the
# gradient, and plain SGD has one learning rate for all parameters. Small, because it multiplies the
# noise of a private step as well, and the guide already finds the place.
PRIOR_GAIN = 2.0


class SliceAttention(nn.Module):
    """``a_l ~ brain_l * exp(score_l)``: gated attention, one query per plane and a learnt prior.

    ``sizes`` are the slices per plane; ``brain`` ``(L,)`` is how much brain each holds. A score of
    zero everywhere attends to every brain voxel alike, and a slice without brain gets nothing.
    """

    def __init__(
        self, sizes: tuple[int, int, int], brain: Tensor, features: int, hidden: int
    ) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.score = GatedScore(features, hidden, queries=len(PLANES))
        # Only slices with brain have a prior: elsewhere its gradient would be zero for ever.
        self.prior = nn.Parameter(torch.zeros(int((brain > 0).sum())))
        self.mask = SliceMask(sizes, brain)

    def forward(self, slices: Tensor, guide: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """``(B, L, F)`` to plane embeddings ``(B, 3, F)`` and attention ``(B, L_plane)`` each.

        ``guide`` ``(B, L)`` are scores from elsewhere, added to its own.
        """
        scores = guide + (self.score(slices) * self.mask.plane).sum(-1)
        scores = self.mask(scores + PRIOR_GAIN * (self.prior @ self.mask.scatter.T))
        return _attend(scores, slices, self.sizes)


class SliceMean(nn.Module):
    """Every slice counts with the brain in it, for comparison: no parameters, and no guide.

    The same as :class:`SliceAttention` at a score of zero everywhere.
    """

    def __init__(self, sizes: tuple[int, int, int], brain: Tensor) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.mask = SliceMask(sizes, brain)

    def forward(self, slices: Tensor, guide: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """As :meth:`SliceAttention.forward`; ``guide`` is not looked at."""
        return _attend(self.mask(torch.zeros_like(guide)), slices, self.sizes)


def _attend(scores: Tensor, slices: Tensor, sizes: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Softmax of scores ``(B, L)`` in each plane, and the mean slice ``(B, 3, F)`` under it."""
    embeddings = []
    attention: dict[str, Tensor] = {}
    for plane, part, tokens in zip(
        PLANES, torch.split(scores, sizes, 1), torch.split(slices, sizes, 1), strict=True
    ):
        attention[plane] = part.softmax(dim=1)
        embeddings.append(torch.einsum("bl,blf->bf", attention[plane], tokens))
    return torch.stack(embeddings, dim=1), attention


class SliceMask(nn.Module):
    """The constants of slice attention: plane of every slice, and how much brain it holds."""

    plane: Tensor
    scatter: Tensor
    log_brain: Tensor

    def __init__(self, sizes: tuple[int, int, int], brain: Tensor) -> None:
        super().__init__()
        plane = torch.repeat_interleave(torch.eye(3), torch.tensor(sizes), dim=0)
        self.register_buffer("plane", plane, persistent=False)
        scatter = torch.eye(len(brain))[:, brain > 0]
        self.register_buffer("scatter", scatter, persistent=False)
        # Minus infinity, and so an attention of exactly zero, where there is no brain.
        self.register_buffer("log_brain", (brain / brain.max()).log(), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        """``(B, L)`` scores plus the logarithm of the brain in each slice."""
        return scores + self.log_brain


def attention_volume(
    attention: dict[str, Tensor], shape: tuple[int, int, int] | None = None
) -> Tensor:
    """Voxel map ``a_sagittal(d) * a_coronal(h) * a_axial(w)``, scaled to a maximum of one.

    ``(B, L_sagittal, L_coronal, L_axial)``, or resampled to ``shape`` such as the model grid's.
    """
    volume = torch.einsum("bd,bh,bw->bdhw", *(attention[plane] for plane in PLANES))
    if shape is not None:
        volume = functional.interpolate(volume[:, None], size=shape, mode="trilinear")[:, 0]
    return volume / volume.amax(dim=(1, 2, 3), keepdim=True)
