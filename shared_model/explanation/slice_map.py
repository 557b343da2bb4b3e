"""Slice attention of three planes as a voxel map."""

from __future__ import annotations

from shared_model.explanation.relevance import Case, Relevance, magnitude, output_of
from shared_model.smrnet.output import SMRNetOutput
from shared_model.smrnet.slice_attention import attention_volume


def slice_attention(case: Case) -> Relevance:
    """``a_sagittal(d) * a_coronal(h) * a_axial(w)`` on the model grid (Lozupone et al. 2024).

    It says where the model looked, for whatever class: it does not depend on the target. Raises
    TypeError for a model without slice attention in three planes.
    """
    output = output_of(case)
    if not isinstance(output, SMRNetOutput):
        raise TypeError(f"{type(output).__name__} has no slice attention in three planes")
    d, h, w = case.labels.shape
    volume = attention_volume(output.slice_attention, (d, h, w))[0]
    return Relevance("slice_attention", magnitude(volume))
