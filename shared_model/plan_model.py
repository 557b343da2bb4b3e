"""The model that a plan describes, built from the plan, its atlas and its public weights alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from shared_model import registry
from shared_model.atlas.atlas import Atlas
from shared_model.errors import SmrfedError
from shared_model.inputs import input_fields
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
    entry = registry.model_entry(plan.model.name)
    # The plan's adaptation section is the one source of the switch.
    site_norm = config.get("site_norm", plan.adaptation.site_norm)
    if site_norm != plan.adaptation.site_norm:
        raise inconsistent(
            f"model.config.site_norm = {site_norm!r}", repr(plan.adaptation.site_norm)
        )
    if "site_norm" in entry.config.model_fields:
        config["site_norm"] = site_norm
    elif site_norm != "off":
        raise inconsistent(
            f"adaptation.site_norm = {site_norm!r}",
            f"'off': model {plan.model.name!r} has no site-adaptive normalisation",
        )
    if plan.adaptation.site_moments == "affine" and plan.model.name == "smrnet":
        config["embedding_scale"] = True
    if entry.task != plan.task.kind:
        raise inconsistent(
            f"model {plan.model.name!r} for {entry.task}", f"task.kind {plan.task.kind!r}"
        )
    if plan.augmentation.enabled and "volume" not in input_fields(entry.batch):
        raise inconsistent(
            "augmentation.enabled = true", f"false: model {plan.model.name!r} reads no volume"
        )
    if plan.input.clinical.used and "clinical" not in input_fields(entry.batch):
        raise inconsistent(
            f"input.clinical.mode = {plan.input.clinical.mode!r}",
            f"'imaging-only': model {plan.model.name!r} reads no clinical data",
        )
    model = registry.build_model(
        plan.model.name,
        config,
        plan.input.grid,
        torch.from_numpy(atlas.labels.astype(np.int64)),
        torch.from_numpy(atlas.adjacency.copy()),
        len(plan.task.labels),
        plan.seed,
        clinical=plan.input.clinical.width,
    )
    if plan.model.weights_sha256 is None and getattr(model, "needs_public_weights", False):
        raise SmrfedError(
            "SMR-E633",
            f"model {plan.model.name!r} needs pretrained weights",
            expected="model.weights_sha256: digest of a file that `smrfed-sim weights import` made",
            found="no weights: the frozen part would be random",
            remedy="import a weights file and name it, or set model.config.seeded = true to begin "
            "from random features knowingly",
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
        remedy="take the plan's sections from what `smrfed-sim models show NAME` prints",
    )
