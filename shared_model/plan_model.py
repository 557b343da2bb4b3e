"""The model that a plan describes, built from the plan, its atlas and its public weights alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from shared_model import registry
from shared_model.atlas.atlas import Atlas
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.public_weights import load_public_weights


def build_plan_model(
    plan: FederationPlan, atlas: Atlas, weights_folders: tuple[Path, ...] = ()
) -> nn.Module:
    """The registered model of a plan with its public weights, on the CPU.

    Raises SMR-E305 (two values of site_norm, or another task), SMR-E105 (weights missing) and the
    registry's SMR-E601 to E606.
    """
    config = dict(plan.model.config)
    # The plan's adaptation section is the one source of the switch.
    site_norm = config.setdefault("site_norm", plan.adaptation.site_norm)
    if site_norm != plan.adaptation.site_norm:
        raise inconsistent(
            f"model.config.site_norm = {site_norm!r}", repr(plan.adaptation.site_norm)
        )
    if plan.adaptation.site_moments == "affine" and plan.model.name == "smrnet":
        config["embedding_scale"] = True
    found = registry.model_entry(plan.model.name).task
    if found != plan.task.kind:
        raise inconsistent(
            f"model {plan.model.name!r} for {found}", f"task.kind {plan.task.kind!r}"
        )
    model = registry.build_model(
        plan.model.name,
        config,
        plan.input.grid,
        torch.from_numpy(atlas.labels.astype(np.int64)),
        torch.from_numpy(atlas.adjacency.copy()),
        len(plan.task.labels),
        plan.seed,
    )
    if plan.model.weights_sha256 is not None:
        weights = load_public_weights(plan.model.weights_sha256, weights_folders)
        registry.load_public_weights(
            model, {name: torch.from_numpy(value) for name, value in weights.items()}
        )
    return model


def inconsistent(found: str, expected: str) -> SmrfedError:
    """SMR-E305: groups, site adaptation, task and model of a plan contradict each other."""
    return SmrfedError(
        "SMR-E305",
        "the plan's model, task, parameter groups and site adaptation contradict each other",
        expected=expected,
        found=found,
        remedy="take [groups] and [task] of the plan from what `smrfed-sim models NAME` prints",
    )
