"""Grad-CAM with MONAI, on a copy of the model and with a map that is not flipped."""

from __future__ import annotations

import copy
from collections import Counter
from typing import cast

import torch
from monai.visualize.class_activation_maps import GradCAM
from torch import Tensor, nn
from torch.nn import functional

from shared_model.explanation.relevance import Case, Relevance, contrast, magnitude, with_volumes

# A map needs some cells per axis to say where; below this it says "somewhere in the brain".
_LEAST_CELLS = 8


class _Contrast(nn.Module):
    """A network whose first logit is the contrast of the target: all that MONAI can be asked."""

    def __init__(self, model: nn.Module, case: Case) -> None:
        super().__init__()
        self.inner = model
        self._case = case

    def forward(self, volume: Tensor) -> Tensor:
        """``(B, 1, D, H, W)`` to ``(B, 2)``: the contrast, and zero."""
        logits = self.inner(with_volumes(self._case.inputs, volume)).logits
        score = contrast(logits, self._case.target)
        return torch.stack([score, torch.zeros_like(score)], dim=1)


def grad_cam(case: Case, layer: str | None = None) -> Relevance:
    """Class activation map of a 3D layer, weighted by mean gradients (Selvaraju et al. 2017).

    Args:
        case: what to explain.
        layer: name of a module whose output is ``(B, channels, d, h, w)``; none: the last one with
            at least eight cells along every axis.

    MONAI's hooks stay on a module for ever, so it gets a deep copy; its default postprocessing maps
    the largest value to 0, so it gets none. Raises ValueError where no layer fits.
    """
    model = copy.deepcopy(case.model).eval().requires_grad_(True)
    for module in model.modules():
        # What a hook has seen must not be written over.
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    name = layer if layer is not None else last_spatial_layer(case)
    wrapped = _Contrast(model, case)
    cam = GradCAM(
        wrapped,
        target_layers=f"inner.{name}",
        upsampler=lambda shape: lambda x: functional.interpolate(x, size=shape, mode="trilinear"),
        postprocessing=lambda x: x,
    )
    volume = case.volume.detach().clone().requires_grad_(True)
    values = cast(Tensor, cam(x=volume, class_idx=0))
    return Relevance("grad_cam", magnitude(values[0, 0]))


def last_spatial_layer(case: Case) -> str:
    """The last module whose output is a 3D map of at least eight cells per axis.

    Raises ValueError where there is none, as in a network of 2D slices.
    """
    found: list[str] = []
    calls: Counter[str] = Counter()

    def watch(name: str) -> None:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            calls[name] += 1
            if not isinstance(output, Tensor) or output.dim() != 5 or len(output) != 1:
                return
            if min(output.shape[2:]) >= _LEAST_CELLS and output.shape[1] > 1:
                found.append(name)

        modules[name].register_forward_hook(hook)

    # On a copy as well: a hook that another thread sees would be a surprise.
    modules = dict(copy.deepcopy(case.model).eval().named_modules())
    for name in modules:
        if name:
            watch(name)
    with torch.no_grad():
        modules[""](case.inputs)
    # A module that is used in several places has several maps: an activation that blocks share.
    found = [name for name in found if calls[name] == 1]
    if not found:
        raise ValueError("no layer of this model has a 3D map to weigh")
    return found[-1]
