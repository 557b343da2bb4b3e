"""How many numbers of an embedding are released, from the plan alone; no torch."""

from __future__ import annotations

from shared_model.adaptation.moments import Floats, projection
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.smrnet.config import SMRNetConfig

_PLANES = 3


def embedding_size(plan: FederationPlan) -> int:
    """E of SMR-Net: embeddings of three planes, and the graph's read-out; raises SMR-E380."""
    if plan.model.name != "smrnet":
        raise SmrfedError(
            "SMR-E380",
            f"site moments need an embedding, and model {plan.model.name!r} has none",
            expected="model 'smrnet', or adaptation.site_moments = 'off'",
            found=f"site_moments = {plan.adaptation.site_moments!r}",
            remedy="change the model or switch layer B off in the plan",
        )
    known = {n: v for n, v in plan.model.config.items() if n in SMRNetConfig.model_fields}
    config = SMRNetConfig.model_validate(known)
    return _PLANES * config.reasoner_features + config.node_features


def moments_dimensions(plan: FederationPlan) -> int:
    """D: dimensions of the released moments; raises SMR-E380."""
    size, asked = embedding_size(plan), plan.adaptation.moments_dimensions
    return size if asked is None else min(size, asked)


def moments_projection(plan: FederationPlan) -> Floats:
    """The plan's public ``(E, D)``; raises SMR-E380."""
    return projection(plan.seed, embedding_size(plan), moments_dimensions(plan))
