"""SMR-Net, full variant: encoder, tokens on atlas and slices, reasoner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from shared_model.errors import SmrfedError
from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.encoder import SCALES, Encoder
from shared_model.smrnet.output import SMRNetOutput
from shared_model.smrnet.reasoner import Reasoner
from shared_model.smrnet.standardiser import NormativeReadout, TokenStandardiser
from shared_model.smrnet.tokens import (
    RegionPooling,
    SlicePooling,
    Tokens,
    plane_sizes,
    slice_brain,
    slice_overlap,
)


class SMRNet(nn.Module):
    """Multi-resolution network with slice attention and atlas graph reasoning.

    Args:
        config: widths, blocks and switches.
        labels: ``(D, H, W)`` integer atlas on the model grid, 0 outside the brain, 1..R inside.
        adjacency: ``(R, R)`` non-negative edge weights between the regions.
        make_reasoner: builds what reads the tokens, as :class:`Reasoner` does.

    Parameter names begin with ``encoder.``, ``standardiser.`` or ``reasoner.``; site residuals end
    in ``.site_scale`` or ``.site_shift``. The model has no tracked buffers.

    Raises SMR-E603 when labels and adjacency do not describe the same regions.
    """

    #: Parameters of the reasoner may have scans as a leading dimension: ``(B, ...)`` for B scans,
    #: each read with its own. Per-patient gradients then cost one ordinary backward pass.
    parameters_per_scan = True
    tokens = Tokens
    above_tokens: tuple[str, ...] = ("reasoner.",)

    def __init__(
        self,
        config: SMRNetConfig,
        labels: Tensor,
        adjacency: Tensor,
        make_reasoner: Callable[..., Reasoner] = Reasoner,
    ) -> None:
        super().__init__()
        labels = labels.detach().cpu().long()
        adjacency = adjacency.detach().cpu()
        _check_atlas(labels, adjacency)
        self.config = config
        strides = tuple(config.stem_stride * 2 ** (s + 1) for s in range(SCALES))
        #: Voxels of the input per cell at each scale, finest first.
        self.strides = strides
        self.encoder = Encoder(
            config.width,
            config.features,
            config.stem_stride,
            config.site_norm,
            config.weight_standardisation,
        )
        self.region_pooling = nn.ModuleList(
            RegionPooling(labels, len(adjacency), stride) for stride in strides
        )
        self.slice_pooling = nn.ModuleList(
            SlicePooling(labels, stride, strides[0]) for stride in strides
        )
        sizes = plane_sizes(labels, strides[0])
        counts = (SCALES, len(adjacency), sum(sizes), config.features)
        self.standardiser = (
            TokenStandardiser(*counts)
            if config.normative_features is None
            else NormativeReadout(*counts, config.normative_features)
        )
        self.reasoner = make_reasoner(
            config,
            adjacency,
            sizes,
            slice_brain(labels, strides[0]),
            slice_overlap(labels, len(adjacency), strides[0]),
        )

    def raw_tokens(self, x: Tensor) -> Tokens:
        """Tokens of ``(B, 1, D, H, W)`` before standardisation, to fit the standardiser on."""
        return self.pool(self.encoder(x))

    def pool(self, maps: Sequence[Tensor]) -> Tokens:
        """Raw tokens of the encoder's feature maps, finest scale first."""
        regions, slices = [], []
        for scale, features in enumerate(maps):
            regions.append(self.encoder.project(scale, self.region_pooling[scale](features)))
            slices.append(self.encoder.project(scale, self.slice_pooling[scale](features)))
        return Tokens(torch.stack(regions, dim=1), torch.stack(slices, dim=1))

    def tokenise(self, x: Tensor) -> Tokens:
        """Standardised tokens of ``(B, 1, D, H, W)``; the expensive, patient-independent half."""
        return cast(Tokens, self.standardiser(self.raw_tokens(x)))

    def reason(self, tokens: Tokens) -> SMRNetOutput:
        """Prediction and explanations from standardised tokens."""
        return cast(SMRNetOutput, self.reasoner(tokens))

    def forward(self, x: Tensor) -> SMRNetOutput:
        """``(B, 1, D, H, W)`` on the model grid to :class:`SMRNetOutput`."""
        return self.reason(self.tokenise(x))


def _check_atlas(labels: Tensor, adjacency: Tensor) -> None:
    found = torch.unique(labels[labels > 0]).tolist()
    if labels.dim() != 3 or adjacency.dim() != 2 or found != list(range(1, len(adjacency) + 1)):
        raise SmrfedError(
            "SMR-E603",
            "the atlas labels and the region graph do not fit together",
            expected=f"a 3D label volume that holds each of 1..{len(adjacency)}",
            found=f"{labels.dim()}D labels with {len(found)} regions, "
            f"adjacency {tuple(adjacency.shape)}",
            remedy="build labels and adjacency from the same atlas on the model grid",
        )
    if adjacency.shape[0] != adjacency.shape[1] or bool((adjacency < 0).any()):
        raise SmrfedError(
            "SMR-E603",
            "the region graph is not a square matrix of non-negative weights",
            expected="(R, R), all entries at least 0",
            found=f"{tuple(adjacency.shape)}, minimum {float(adjacency.min())}",
            remedy="build the adjacency with shared_model.atlas",
        )
