"""ResNet50 of key slices or of the whole volume, with a small head that is all that trains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.batch import Batch
from shared_model.layers.site_norm import SiteShift
from shared_model.resnet.config import BackboneConfig, ResNet50Config, ResNet503DConfig
from shared_model.resnet.encoder import ResNetEncoder
from shared_model.resnet.key_slices import KeySlices


@dataclass(frozen=True)
class ResNetOutput:
    """Logits and explanations of B scans.

    Attributes:
        logits: ``(B, C)``.
        slice_attention: ``(B, K)`` weights of the slices, summing to one; K is 1 for volumes.
        embedding: ``(B, F)`` before the head.
    """

    logits: Tensor
    slice_attention: Tensor
    embedding: Tensor


@dataclass(frozen=True)
class ResNetTokens(Batch):
    """What lies below the stages that train, computed once a scan.

    Attributes:
        maps: ``(B, K, F)`` means over space where no stage trains, else maps ``(B, K, C, *)``.
    """

    maps: Tensor


class SlicePool(nn.Module):
    """``(B, K, F)`` to ``(B, F)``: slice attention ``softmax(w f)`` as AXIAL's, or the mean."""

    def __init__(self, features: int, *, attention: bool) -> None:
        super().__init__()
        # No bias: the softmax would not see it.
        self.score = nn.Linear(features, 1, bias=False) if attention else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled features, and the weights ``(B, K)``."""
        if self.score is None:
            weights = x.new_full(x.shape[:2], 1 / x.shape[1])
        else:
            weights = torch.softmax(self.score(x)[..., 0] / x.shape[2] ** 0.5, dim=1)
        return (weights[..., None] * x).sum(1), weights


class ResNetClassifier(nn.Module):
    """Views of a volume, encoder, mean over space, pool over views, layer A, head.

    Grad-CAM: target layers ``encoder.layer3`` and ``encoder.layer4``; of slices their maps are
    ``(B K, C, h, w)``.

    Args:
        config: options.
        encoder: of one view.
        views: ``(B, 1, D, H, W)`` to ``(B, K, channels, *)``.
        attention: whether views have weights.
    """

    tokens = ResNetTokens
    recipe: Tensor

    def __init__(
        self, config: BackboneConfig, encoder: ResNetEncoder, views: nn.Module, *, attention: bool
    ) -> None:
        super().__init__()
        self.config = config
        self.views = views
        self.encoder = encoder
        self.pool = SlicePool(encoder.features, attention=attention)
        self.place = SiteShift(encoder.features, config.site_norm, scaled=True)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(encoder.features, config.classes)
        stages = [f"encoder.layer{5 - i}." for i in range(1, config.trained_stages + 1)]
        self.above_tokens = ("pool.", "place.", "head.", *stages)
        # Kept tokens are known by what lies below them; the cut is part of it.
        self.register_buffer("recipe", torch.tensor([config.trained_stages]), persistent=False)

    @property
    def needs_public_weights(self) -> bool:
        """Whether a plan must name weights: random features learn nothing where they are frozen."""
        return not self.config.seeded

    def tokenise(self, x: Tensor) -> ResNetTokens:
        """``(B, 1, D, H, W)`` to what the trained part sees."""
        views = self.views(x)
        maps = self.encoder.bottom(views.flatten(0, 1))
        if not self.config.trained_stages:
            maps = maps.flatten(2).mean(2)
        return ResNetTokens(maps.reshape(*views.shape[:2], *maps.shape[1:]))

    def reason(self, tokens: ResNetTokens) -> ResNetOutput:
        """Prediction from tokens."""
        features = tokens.maps
        if self.config.trained_stages:
            maps = self.encoder.top(features.flatten(0, 1))
            features = maps.flatten(2).mean(2).reshape(*features.shape[:2], -1)
        # Of one slice alone; without it lengths, and so a patient's gradient, would be anything.
        features = functional.layer_norm(features, features.shape[-1:])
        pooled, weights = self.pool(features)
        embedding = self.place.place(pooled, 0, pooled.shape[1])
        return ResNetOutput(self.head(self.dropout(embedding)), weights, embedding)

    def forward(self, x: Tensor) -> ResNetOutput:
        """``(B, 1, D, H, W)`` on the model grid."""
        return self.reason(self.tokenise(x))


class WholeVolume(nn.Module):
    """A volume as its only view: ``(B, 1, D, H, W)`` to ``(B, 1, 1, D, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the dimension of views."""
        return x[:, None]


def slice_resnet(config: ResNet50Config, labels: Tensor) -> ResNetClassifier:
    """``resnet50``: key slices ``(B, K, 3, S, S)``."""
    views = KeySlices(labels, config.planes, config.slices, config.channels, config.image_size)
    encoder = _encoder(config, spatial_dims=2, channels=3)
    return ResNetClassifier(config, encoder, views, attention=config.pool == "attention")


def volume_resnet(config: ResNet503DConfig) -> ResNetClassifier:
    """``resnet50-3d``: the whole volume, with a stem of stride 2."""
    encoder = _encoder(config, spatial_dims=3, channels=1)
    return ResNetClassifier(config, encoder, WholeVolume(), attention=False)


def _encoder(config: BackboneConfig, spatial_dims: int, channels: int) -> ResNetEncoder:
    return ResNetEncoder(
        spatial_dims,
        config.width,
        config.blocks,
        channels,
        config.trained_stages,
        config.norm,
        config.site_norm,
    )
