"""The private part of SMR-Net: a few thousand parameters on standardised tokens."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from shared_model.layers.site_norm import SiteAdaptiveAffine, SiteShift
from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.encoder import SCALES
from shared_model.smrnet.fusion import FixedFusion, ScaleFusion
from shared_model.smrnet.graph import AtlasGraph
from shared_model.smrnet.output import SMRNetOutput
from shared_model.smrnet.readout import RegionReadout
from shared_model.smrnet.slice_attention import SliceAttention, SliceMean
from shared_model.smrnet.tokens import Tokens


class Reasoner(nn.Module):
    """Site affine, fusion across scales, slice attention, atlas graph, read-out and head."""

    def __init__(
        self,
        config: SMRNetConfig,
        adjacency: Tensor,
        sizes: tuple[int, int, int],
        brain: Tensor,
        overlap: Tensor,
    ) -> None:
        super().__init__()
        features, nodes, hidden = (
            config.reasoner_features,
            config.node_features,
            config.attention_features,
        )
        #: Scales that are read, finest first.
        self.scales = 1 if config.fusion == "finest" else SCALES
        self.region_norm = SiteAdaptiveAffine(self.scales, features, config.site_norm)
        self.slice_norm = SiteAdaptiveAffine(self.scales, features, config.site_norm)
        self.region_fusion, self.slice_fusion = (
            ScaleFusion(SCALES, features)
            if config.fusion == "adaptive"
            else FixedFusion(SCALES, self.scales)
            for _ in range(2)
        )
        self.cut_regions = CutRegions(overlap)
        self.slice_attention = (
            SliceAttention(sizes, brain, features, hidden)
            if config.slice_attention
            else SliceMean(sizes, brain)
        )
        self.graph = AtlasGraph(
            adjacency, features, nodes, config.graph_blocks, config.learned_edge_rank
        )
        self.readout = RegionReadout(len(adjacency), nodes, hidden, config.classes)
        self.embedding_shift = SiteShift(
            3 * features + nodes, config.site_norm, scaled=config.embedding_scale
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = Head(features, config.classes)

    def forward(
        self, tokens: Tokens, nodes: Tensor | None = None, beside: Tensor | None = None
    ) -> SMRNetOutput:
        """Read standardised tokens of B scans.

        ``nodes`` ``(B, R, G)`` are added to the graph's, ``beside`` ``(B, R, C)`` to what regions
        say after it.
        """
        used = slice(0, self.scales)
        regions, fusion_regions = self.region_fusion(self.region_norm(tokens.regions[:, used]))
        slices, fusion_slices = self.slice_fusion(self.slice_norm(tokens.slices[:, used]))
        own = 3 * self.head.features
        place = partial(self.embedding_shift.place, start=own, stop=own + self.readout.features)
        graph = self.readout(self.dropout(self.graph(regions, nodes)), place, beside)
        planes, attention = self.slice_attention(
            slices + self.cut_regions(regions), self.cut_regions.guide(graph.importance)
        )
        planes = self.dropout(self.embedding_shift.place(planes.flatten(1), 0, own))
        return SMRNetOutput(
            logits=self.head(planes) + graph.logits,
            fusion_regions=fusion_regions,
            fusion_slices=fusion_slices,
            slice_attention=attention,
            region_importance=graph.importance,
            region_evidence=graph.evidence,
            embedding=torch.cat([planes, graph.pooled], dim=1),
        )


# A slice mixes the regions that it cuts, so its mean importance is flatter than theirs: the power
# makes the map of the three planes as sharp again. Chosen on the demonstration's cohort.
_GUIDE_POWER = 3.0
_GUIDE_FLOOR = 0.01


class CutRegions(nn.Module):
    """What a slice gets from the regions that it cuts; holds constants only.

    The mean over a slice hides small structures; their own tokens do not. ``overlap`` is
    :func:`shared_model.smrnet.tokens.slice_overlap`.
    """

    overlap: Tensor
    share: Tensor

    def __init__(self, overlap: Tensor) -> None:
        super().__init__()
        self.register_buffer("overlap", overlap, persistent=False)
        total = overlap.sum(1, keepdim=True)
        # A slice without a region is guided like the mean of all regions.
        share = torch.where(total > 0, overlap / total.clamp(min=1e-12), 1 / overlap.shape[1])
        self.register_buffer("share", share, persistent=False)

    def forward(self, regions: Tensor) -> Tensor:
        """``(B, R, F)`` to ``(B, L, F)``."""
        return (regions.transpose(1, 2) @ self.overlap.T).transpose(1, 2)

    def guide(self, importance: Tensor) -> Tensor:
        """Scores ``(B, L)`` of slices from region importance ``(B, R)``; zero where it is uniform.

        ``3 log`` of how much more important than the mean the regions in a slice are. Few patients,
        and noised gradients, find the regions sooner than the slices: 116 parts of the brain
        differ more than neighbouring slices do.
        """
        relative = importance.shape[1] * importance @ self.share.T
        return _GUIDE_POWER * torch.log((relative + _GUIDE_FLOOR) / (1 + _GUIDE_FLOOR))


class Head(nn.Module):
    """Class bias and the linear evidence of the three plane embeddings; starts at zero."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(torch.zeros(classes, 3 * features))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, planes: Tensor) -> Tensor:
        """``(B, 3F)`` to ``(B, C)`` logits."""
        return (self.weight * planes[:, None]).sum(-1) + self.bias
