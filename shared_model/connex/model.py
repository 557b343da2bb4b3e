"""ConneX: two graph backbones under a shared mask, cross-modal attention, mixers, three heads.

After Mazumder, Wu, Calhoun and Ye, EMBC 2025 (arXiv 2505.15139), whose code is not public, as
docs/connex.md spells it out; the mask after IBGNN+ (Cui et al., MICCAI 2022).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.batch import Batch
from shared_model.connex.backbone import Backbone
from shared_model.connex.config import ConnexConfig
from shared_model.connex.cross_attention import CrossAttention, UnifiedView
from shared_model.connex.explanation_mask import ExplanationMask
from shared_model.connex.graphs import Connectomes, EdgeReference, Graphs, GraphTransform
from shared_model.connex.mixer import Mixer
from shared_model.connex.modality_dropout import ModalityDropout
from shared_model.connex.output import ConnexOutput, late_logits
from shared_model.layers.site_norm import SiteAdaptiveAffine

MODALITIES = ("structural", "functional")


class Connex(nn.Module):
    """Reads :class:`Connectomes`; the transform to :class:`Graphs` is fixed and can be cached.

    Nothing couples patients: normalisation is over one node's numbers, and the transform uses the
    patient's own matrix and public constants.

    Args:
        config: sizes, switches and loss weights.
        regions: R.
    """

    tokens: type[Batch] = Graphs
    above_tokens: tuple[str, ...] = ("network.",)

    def __init__(self, config: ConnexConfig, regions: int) -> None:
        super().__init__()
        #: Nodes of the graphs: rows of the matrices that are read.
        self.nodes = regions
        self.graphs = GraphTransform(config, regions)
        self.reference = EdgeReference(regions)
        self.network = ConnexNetwork(config, regions)

    def forward(self, x: Connectomes) -> ConnexOutput:
        """Predict for B patients."""
        return self.reason(self.tokenise(x))

    def tokenise(self, x: Connectomes) -> Graphs:
        """The graphs of B patients."""
        graphs: Graphs = self.graphs(x, self.reference)
        return graphs

    def reason(self, tokens: Graphs) -> ConnexOutput:
        """Predict from graphs."""
        out: ConnexOutput = self.network(tokens)
        return out


class ConnexNetwork(nn.Module):
    """All that trains. A part without a loss of its own is not built: its gradient would be 0."""

    def __init__(self, config: ConnexConfig, regions: int) -> None:
        super().__init__()
        self.config = config
        width, late = config.width, config.fusion == "late"
        self.mask = ExplanationMask(regions, config.mask_gain) if config.mask else None
        self.backbones = nn.ModuleDict(
            {
                name: Backbone(regions, width, config.layers, channels)
                for name, channels in zip(MODALITIES, (1, 2), strict=True)
            }
        )
        self.site = SiteAdaptiveAffine(2, width, config.site_norm)
        self.dropout = ModalityDropout(config.modality_dropout)
        self.unified = None if late else UnifiedView(width)
        self.attend = CrossAttention(width) if config.fusion == "cross" else None
        self.weights = dict(
            zip(MODALITIES, (config.loss_structural, config.loss_functional), strict=True)
        )
        views = [] if late else ["unified"]
        views += [name for name in MODALITIES if self.weights[name] > 0]
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name in views})
        self.mixers = nn.ModuleDict(
            {
                name: Mixer(regions, width, config.mixer_tokens, config.mixer_channels)
                for name in views
                if config.mixer
            }
        )
        self.heads = nn.ModuleDict({name: nn.Linear(width, config.classes) for name in views})

    def forward(self, graphs: Graphs) -> ConnexOutput:
        """Predict for B patients."""
        present = self.dropout(graphs.present)
        here = present[:, :, None, None]
        mask = None if self.mask is None else self.mask()
        nodes = self.site(self._embedded(graphs, mask)) * here
        views = {name: nodes[:, m] for m, name in enumerate(MODALITIES)}
        attention = None
        if self.unified is not None:
            views["unified"] = self.unified(nodes)
            if self.attend is not None:
                found, attention = self.attend(nodes, views["unified"])
                found = found * here
                views["unified"] = views["unified"] + found.sum(1)
                views |= {name: nodes[:, m] + found[:, m] for m, name in enumerate(MODALITIES)}
        refined = {name: self._refined(name, views[name]) for name in self.heads}
        logits = {name: head(refined[name].mean(1)) for name, head in self.heads.items()}
        main, contributions = self._main(refined, logits, present)
        embedding = torch.stack([value.mean(1) for value in refined.values()], dim=1)
        penalty = main.new_zeros(len(main))
        if self.mask is not None:
            own = self.mask.penalty(self.config.mask_sparsity, self.config.mask_entropy)
            penalty = penalty + own
        return ConnexOutput(
            logits=main,
            structural_logits=logits.get("structural"),
            functional_logits=logits.get("functional"),
            contributions=contributions,
            attention=attention,
            mask=mask,
            embedding=embedding[:, 0] if "unified" in refined else embedding.flatten(1),
            present=present,
            head_weights=present * present.new_tensor(list(self.weights.values())),
            penalty=penalty,
        )

    def _embedded(self, graphs: Graphs, mask: Tensor | None) -> Tensor:
        """``(B, 2, R, d)`` node embeddings of both modalities."""
        channels = {"structural": graphs.edges[:, :1], "functional": graphs.edges[:, 1:]}
        return torch.stack(
            [
                backbone(graphs.profiles[:, m], channels[name], None if mask is None else mask[m])
                for m, (name, backbone) in enumerate(self.backbones.items())
            ],
            dim=1,
        )

    def _refined(self, name: str, view: Tensor) -> Tensor:
        normed: Tensor = self.norms[name](view)
        mixed: Tensor = self.mixers[name](normed) if name in self.mixers else normed
        return mixed

    def _main(
        self, refined: dict[str, Tensor], logits: dict[str, Tensor], present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``(B, C)`` logits that decide, and ``(B, R, C)`` what every node adds to them."""
        if "unified" in logits:
            return logits["unified"], self._contributions("unified", refined)
        nodes = torch.stack([self._contributions(name, refined) for name in MODALITIES], dim=1)
        shares = present / present.sum(1, keepdim=True).clamp(min=1)
        both = torch.stack([logits[name] for name in MODALITIES], dim=1)
        return late_logits(both, present), torch.einsum("bmrc,bm->brc", nodes, shares)

    def _contributions(self, name: str, refined: dict[str, Tensor]) -> Tensor:
        """``(B, R, C)`` of one head, without its biases."""
        return functional.linear(refined[name], cast(Tensor, self.heads[name].weight))
