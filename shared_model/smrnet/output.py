"""What SMR-Net returns: the prediction together with the quantities that explain it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SMRNetOutput:
    """Logits and explanations of a batch of B scans.

    Attributes:
        logits: ``(B, C)``. They split exactly into ``bias + planes + sum_r importance_r *
            evidence_r``, where the planes part is ``head.plane_logits`` of the plane embeddings.
        fusion_regions: ``(B, R, S)`` adaptive weight of each scale, summing to one, per region.
        fusion_slices: ``(B, L, S)`` the same per slice; slices of the planes follow one another in
            the order sagittal, coronal, axial.
        slice_attention: per plane (``sagittal``, ``coronal``, ``axial``) ``(B, L_plane)``, summing
            to one over the plane, zero on slices without brain.
        region_importance: ``(B, R)`` read-out attention over atlas regions, summing to one.
        region_evidence: ``(B, R, C)`` what each region says for each class, in logits.
        embedding: ``(B, E)`` plane embeddings and graph read-out, before the head.
    """

    logits: Tensor
    fusion_regions: Tensor
    fusion_slices: Tensor
    slice_attention: dict[str, Tensor]
    region_importance: Tensor
    region_evidence: Tensor
    embedding: Tensor
