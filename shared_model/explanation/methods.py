"""The explanation methods by name, and which of them a model allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from shared_model.explanation.grad_cam import grad_cam
from shared_model.explanation.integrated_gradients import integrated_gradients
from shared_model.explanation.occlusion import occlusion
from shared_model.explanation.region_map import region_evidence, region_importance
from shared_model.explanation.relevance import Case, Relevance
from shared_model.explanation.slice_map import slice_attention
from shared_model.smrnet.model import SMRNet


@dataclass(frozen=True)
class Method:
    """One way to explain.

    Attributes:
        title: for pages.
        about: what the map means, in one sentence.
        make: from a case to its relevance.
        needs_smrnet: whether it reads SMR-Net's own attention.
    """

    title: str
    about: str
    make: Callable[[Case], Relevance]
    needs_smrnet: bool = False


#: In the order in which they are shown; docs/explanations.md has what each was measured to be.
METHODS: Mapping[str, Method] = {
    "region_evidence": Method(
        "Region evidence",
        "What each atlas region added to the score of the named class; exact parts of the output.",
        region_evidence,
        needs_smrnet=True,
    ),
    "slice_attention": Method(
        "Slice attention",
        "Where the slices that the model weighed most cross one another, in three planes.",
        slice_attention,
        needs_smrnet=True,
    ),
    "region_importance": Method(
        "Region importance",
        "How much weight each region had, whatever it said.",
        region_importance,
        needs_smrnet=True,
    ),
    "occlusion": Method(
        "Occlusion of regions",
        "How the score changes when one region is replaced by that of a public brain.",
        occlusion,
    ),
    "integrated_gradients": Method(
        "Integrated gradients",
        "Voxels whose difference from a public brain moved the score.",
        integrated_gradients,
    ),
    "grad_cam": Method(
        "Grad-CAM",
        "Cells of a convolutional layer that raise the score.",
        grad_cam,
    ),
}
#: The one that meets the bars of docs/explanations.md, for SMR-Net and for other models.
SHIPPED = "region_evidence"
SHIPPED_ELSEWHERE = "occlusion"


def methods_for(model: nn.Module) -> tuple[str, ...]:
    """Names of the methods that apply to a model, the default first.

    A network without 3D maps has no Grad-CAM; that shows when it is asked (ValueError).
    """
    own = isinstance(model, SMRNet)
    return tuple(name for name, method in METHODS.items() if own or not method.needs_smrnet)
