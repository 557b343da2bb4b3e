"""VGG16 (Simonyan and Zisserman 2015) with torchvision's names."""

from __future__ import annotations

from torch import Tensor, nn

_CHANNELS = (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8, 0)  # times width; 0: pooling


class VGG16(nn.Module):
    """Pictures ``(N, 3, S, S)`` to maps ``(N, 8 width, S / 32, S / 32)``; no normalisation at all.

    ``features.N`` are torchvision's, so its file fits. Its classifier, 124 of the 138 million
    parameters, is built only where ``classes`` is given, and is then what :meth:`logits` uses.

    Args:
        width: channels of the first convolution; 64 as published.
        classes: of the published classifier; none: the convolutions alone.
    """

    def __init__(self, width: int = 64, classes: int | None = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for factor in _CHANNELS:
            if not factor:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(before, factor * width, 3, padding=1), nn.ReLU(inplace=True)]
            before = factor * width
        self.features = nn.Sequential(*layers)
        self.size = before
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.classifier = None
        if classes is not None:
            self.classifier = nn.Sequential(
                nn.Linear(before * 49, 64 * width), nn.ReLU(inplace=True), nn.Dropout(),
                nn.Linear(64 * width, 64 * width), nn.ReLU(inplace=True), nn.Dropout(),
                nn.Linear(64 * width, classes),
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Maps of pictures."""
        out: Tensor = self.features(x)
        return out

    def logits(self, x: Tensor) -> Tensor:
        """``(N, classes)`` of the published network."""
        if self.classifier is None:
            raise ValueError("built without classes")
        pooled = nn.functional.adaptive_avg_pool2d(self(x), 7)
        out: Tensor = self.classifier(pooled.flatten(1))
        return out
