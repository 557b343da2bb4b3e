"""From published state dicts of ResNet50 and VGG16 to this package's parameters, name by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shared_model.errors import SmrfedError
from shared_model.resnet.encoder import FrozenAffine

# Published classifiers: of ImageNet's thousand classes, of no use here.
_LEFT_OVER = ("fc.", "classifier.")
_EPS = 1e-5


def convert(model: nn.Module, files: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Parameters of the model's backbones, float32, from one state dict for each of them.

    A frozen affine gets the folded normalisation ``w / sqrt(v + eps)`` and ``b - m w / sqrt(v +
    eps)``, so the network computes what the published one does in evaluation. A group normalisation
    of a stage that trains begins with w and b themselves.

    Raises SMR-E636 unless every parameter is found, with its shape, and nothing but the published
    classifier is left over.
    """
    out: dict[str, Tensor] = {}
    for state in files:
        part = "vgg16" if any(name.startswith("features.") for name in state) else "resnet50"
        prefix = part if hasattr(model, part) else "encoder"
        backbone = getattr(model, prefix, None)
        if not isinstance(backbone, nn.Module):
            raise _other([f"{part}: the model has no such backbone"])
        out |= {f"{prefix}.{name}": v for name, v in _of_backbone(backbone, state).items()}
    wanted = {
        name: tuple(p.shape)
        for name, p in model.named_parameters()
        if name.split(".")[0] in ("encoder", "vgg16", "resnet50") and not name.endswith(_RESIDUAL)
    }
    problems = [f"missing {name}" for name in sorted(set(wanted) - set(out))]
    problems += [
        f"{name} {tuple(value.shape)}, not {wanted[name]}"
        for name, value in out.items()
        if name in wanted and tuple(value.shape) != wanted[name]
    ]
    if problems:
        raise _other(problems)
    return out


_RESIDUAL = (".site_scale", ".site_shift")


def _of_backbone(backbone: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    left = {name: v.float() for name, v in state.items() if not name.startswith(_LEFT_OVER)}
    out: dict[str, Tensor] = {}
    missing = []

    def take(name: str) -> Tensor:
        if name not in left:
            missing.append(f"missing {name}")
            return torch.zeros(0)
        return left.pop(name)

    for path, module in backbone.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own:
            continue
        if "scale" in own or "gamma" in own:
            w, b, m, v = (
                take(f"{path}.{key}") for key in ("weight", "bias", "running_mean", "running_var")
            )
            if isinstance(module, FrozenAffine):
                if len({t.numel() for t in (w, b, m, v)}) == 1:
                    out[f"{path}.scale"] = w / (v + _EPS).sqrt()
                    out[f"{path}.offset"] = b - m * out[f"{path}.scale"]
            else:
                out[f"{path}.gamma"], out[f"{path}.beta"] = w, b
            continue
        out |= {f"{path}.{key}": take(f"{path}.{key}") for key in own}
    problems = missing + [f"left over {name}" for name in sorted(left)]
    if problems:
        raise _other(problems)
    return out


def _other(problems: list[str]) -> SmrfedError:
    return SmrfedError(
        "SMR-E636",
        "the weights file is not of this network",
        expected="every name and shape of the backbone; only fc.* or classifier.* may be left over",
        found="; ".join(problems[:6]) + (f"; and {len(problems) - 6} more" * (len(problems) > 6)),
        remedy="use the file of exactly this network; see docs/multimodal.md",
    )
