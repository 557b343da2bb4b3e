"""MONAI's ResNet50 without batch normalisation, cut where training begins."""

from __future__ import annotations

from math import gcd
from typing import Literal, cast

import torch
from monai.networks.nets.resnet import ResNet, ResNetBottleneck
from torch import Tensor, nn

from shared_model.layers.site_norm import SiteAdaptiveGroupNorm, SiteNorm

#: Of the stages that train: the pretrained normalisation as constants, or groups of one scan's own.
TrainedNorm = Literal["affine", "group"]
_STAGES = ("layer1", "layer2", "layer3", "layer4")


class FrozenAffine(nn.Module):
    """Pretrained batch normalisation as what it is once trained: ``scale * x + offset``.

    ``scale = weight / sqrt(running_var + eps)`` and ``offset = bias - running_mean * scale``, per
    channel; the parameters are of group ``frozen`` always, so they travel by name with the public
    weights and no batch of patients ever enters them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *)`` to the same shape."""
        shape = (1, -1, *(1,) * (x.dim() - 2))
        return x * self.scale.reshape(shape) + self.offset.reshape(shape)


class ResNetEncoder(nn.Module):
    """ResNet v1.5 with bottlenecks: ``(N, channels, *)`` to maps ``(N, 32 width, *)``.

    The names of convolutions are those of torchvision (2D) and of Med3D (3D). MONAI 1.6.1 passes
    ``norm`` to the first layer only, so every norm is replaced here after building.

    Args:
        spatial_dims: 2 or 3.
        width: channels of the first convolution; 64 as published.
        blocks: bottlenecks in each of the four stages; (3, 4, 6, 3) is ResNet50.
        channels: of the input.
        trained_stages: how many of the last stages lie above :meth:`bottom`.
        norm: of these stages; below, it is frozen always.
        site_norm: layer A where ``norm`` is ``group``.
    """

    def __init__(
        self,
        spatial_dims: int,
        width: int = 64,
        blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
        channels: int = 3,
        trained_stages: int = 0,
        norm: TrainedNorm = "affine",
        site_norm: SiteNorm = "off",
    ) -> None:
        super().__init__()
        net = ResNet(
            ResNetBottleneck,
            list(blocks),
            [width, 2 * width, 4 * width, 8 * width],
            spatial_dims=spatial_dims,
            n_input_channels=channels,
            conv1_t_stride=2,  # with MONAI's default of 1 a volume costs eight times as much
            bias_downsample=False,
            feed_forward=False,
        )
        self.conv1, self.bn1, self.act, self.maxpool = net.conv1, net.bn1, net.act, net.maxpool
        for name in _STAGES:
            setattr(self, name, getattr(net, name))
        self.features = 8 * width * ResNetBottleneck.expansion
        self._cut = len(_STAGES) - trained_stages
        trained = _STAGES[self._cut :]
        for path, module in list(self.named_modules()):
            if not isinstance(module, nn.modules.batchnorm._BatchNorm):
                continue
            size = module.num_features
            new: nn.Module = FrozenAffine(size)
            if norm == "group" and path.startswith(trained):
                new = SiteAdaptiveGroupNorm(size, gcd(32, size), site_norm)
            parent, _, name = path.rpartition(".")
            setattr(self.get_submodule(parent), name, new)

    def bottom(self, x: Tensor) -> Tensor:
        """What does not train: ``(N, channels, *)`` to maps ``(N, C, *)``."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        return self._stages(x, _STAGES[: self._cut])

    def top(self, x: Tensor) -> Tensor:
        """The stages that train: maps to ``(N, 32 width, *)``; nothing where none does."""
        return self._stages(x, _STAGES[self._cut :])

    def forward(self, x: Tensor) -> Tensor:
        """``(N, channels, *)`` to ``(N, 32 width, *)``."""
        return self.top(self.bottom(x))

    def _stages(self, x: Tensor, names: tuple[str, ...]) -> Tensor:
        for name in names:
            x = cast(nn.Module, getattr(self, name))(x)
        return x
