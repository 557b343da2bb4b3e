"""VGG16 and ResNet50 of key slices beside a small network of clinical data, joined late."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.batch import Batch
from shared_model.errors import SmrfedError
from shared_model.fusion.config import MultimodalConfig
from shared_model.layers.site_norm import SiteShift
from shared_model.resnet.encoder import ResNetEncoder
from shared_model.resnet.key_slices import KeySlices
from shared_model.resnet.model import SlicePool
from shared_model.vgg.encoder import VGG16


@dataclass(frozen=True)
class VolumeAndClinical(Batch):
    """B scans with their clinical data.

    Attributes:
        volume: ``(B, 1, D, H, W)`` on the model grid.
        clinical: ``(B, K)`` as the plan encodes them; K is 0 in mode ``imaging-only``.
    """

    volume: Tensor
    clinical: Tensor


@dataclass(frozen=True)
class FusionTokens(Batch):
    """What both frozen backbones make of a scan; a branch that is not there has width 0.

    Attributes:
        vgg16: ``(B, S, F)`` of S key slices.
        resnet50: ``(B, S, G)``.
        clinical: ``(B, K)``.
    """

    vgg16: Tensor
    resnet50: Tensor
    clinical: Tensor


@dataclass(frozen=True)
class FusionOutput:
    """Logits and explanations of B scans.

    Attributes:
        logits: ``(B, C)``: the head's bias plus the sum of ``contributions`` (without dropout).
        contributions: ``(B, M, C)`` what each branch says for each class, in the order vgg16,
            resnet50, clinical, of those that are there.
        slice_attention: per backbone ``(B, S)``, summing to one.
        embedding: ``(B, E)`` the joined branches, before the head.
    """

    logits: Tensor
    contributions: Tensor
    slice_attention: dict[str, Tensor]
    embedding: Tensor


class Multimodal(nn.Module):
    """``head(dropout([VGG16 | ResNet50 | tanh(W clinical)]))``.

    With 64 channels the parts are 512, 2048 and h wide. An image branch is standardised within a
    scan and scaled so that its squared length is that of h units: otherwise 2048 numbers would
    drown 16, in the sum as well as in the one clip of a patient. Each branch is frozen or trained
    as the plan's groups say; where both backbones are frozen they see every scan once.

    Grad-CAM: target layers ``vgg16.features.29`` (the last ReLU before the last pooling) and
    ``resnet50.layer4``; maps are ``(B S, C, h, w)``.

    Args:
        config: options.
        labels: ``(D, H, W)`` of the atlas, for the key slices.
        clinical: K; 0: no clinical branch.

    Raises SMR-E634 when neither images nor clinical data are left.
    """

    tokens = FusionTokens
    above_tokens = ("pool.", "clinical.", "place.", "head.")

    def __init__(self, config: MultimodalConfig, labels: Tensor, clinical: int) -> None:
        super().__init__()
        if not config.backbones and not clinical:
            raise SmrfedError(
                "SMR-E634",
                "the multimodal model has no input left",
                expected="an image backbone, or clinical variables",
                found="model.config.backbones = [] and input.clinical.mode = 'imaging-only'",
                remedy="name a backbone, or set another mode in [input.clinical]",
            )
        self.config = config
        self.views = KeySlices(
            labels, config.planes, config.slices, config.channels, config.image_size
        )
        self.widths: dict[str, int] = {}
        self.vgg16 = self.resnet50 = self.clinical = None
        if "vgg16" in config.backbones:
            self.vgg16 = VGG16(config.vgg_width)
            self.widths["vgg16"] = self.vgg16.size
        if "resnet50" in config.backbones:
            self.resnet50 = ResNetEncoder(2, config.resnet_width, config.blocks)
            self.widths["resnet50"] = self.resnet50.features
        self.pool = nn.ModuleDict(
            {
                name: SlicePool(width, attention=config.pool == "attention")
                for name, width in self.widths.items()
            }
        )
        if clinical:
            self.clinical = nn.Linear(clinical, config.clinical_features)
            self.widths["clinical"] = config.clinical_features
        total = sum(self.widths.values())
        self.place = SiteShift(total, config.site_norm, scaled=True)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(total, config.classes)

    @property
    def needs_public_weights(self) -> bool:
        """Whether a plan must name weights: random features learn nothing where they are frozen."""
        return bool(self.config.backbones) and not self.config.seeded

    def tokenise(self, x: VolumeAndClinical) -> FusionTokens:
        """What the frozen backbones make of scans; the clinical data pass through."""
        nothing = x.volume.new_zeros(len(x.volume), 0)
        if not self.config.backbones:
            return FusionTokens(nothing, nothing, x.clinical)
        views = self.views(x.volume)
        flat = views.flatten(0, 1)
        vgg16, resnet50 = (
            nothing
            if encoder is None
            else encoder(flat).flatten(2).mean(2).reshape(*views.shape[:2], -1)
            for encoder in (self.vgg16, self.resnet50)
        )
        return FusionTokens(vgg16, resnet50, x.clinical)

    def reason(self, tokens: FusionTokens) -> FusionOutput:
        """Prediction from tokens."""
        parts, attention = [], {}
        for name, features in (("vgg16", tokens.vgg16), ("resnet50", tokens.resnet50)):
            if name in self.pool:
                standard = functional.layer_norm(features, features.shape[-1:])
                pooled, attention[name] = self.pool[name](standard)
                parts.append(pooled * (self.config.clinical_features / pooled.shape[1]) ** 0.5)
        if self.clinical is not None:
            parts.append(torch.tanh(self.clinical(tokens.clinical)))
        joined = torch.cat(parts, 1)
        embedding = self.place.place(joined, 0, joined.shape[1])
        widths = list(self.widths.values())
        columns = torch.split(embedding, widths, 1)
        weights = torch.split(self.head.weight, widths, 1)
        said = [part @ weight.T for part, weight in zip(columns, weights, strict=True)]
        logits = self.head(self.dropout(embedding))
        return FusionOutput(logits, torch.stack(said, 1), attention, embedding)

    def forward(self, x: VolumeAndClinical) -> FusionOutput:
        """Scans with their clinical data."""
        return self.reason(self.tokenise(x))
