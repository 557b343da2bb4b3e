"""Connectomes of a visit as the plan's model asks for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from client.archive.connectomes import ConnectomeFolder, Modality
from client.archive.patients import Patient, Scan
from client.config import SiteConfig
from shared_model.connex.parcellation import parcellation_sha256
from shared_model.grid import ModelGrid
from shared_model.plan import AtlasSection, FederationPlan


def connectome_field(
    config: SiteConfig, plan: FederationPlan, name: str, patient: Patient, scan: Scan
) -> npt.NDArray[np.float32]:
    """``(R, R)`` of a modality, or ``()`` whether the visit has it; raises SMR-E490 to E494."""
    options = plan.model.config
    folder = _folder(
        config.dataset,
        _plan_regions(plan),
        str(options.get("require", "any")),
        options.get("functional", "fisher_z") == "fisher_z",
    )
    modality = cast(Modality, name.removeprefix("has_"))
    if name.startswith("has_"):
        return np.array(folder.has(patient, scan, modality), np.float32)
    return folder.matrix(patient, scan, modality)


@cache
def _folder(
    root: Path, regions: tuple[int, str], require: str, correlations: bool
) -> ConnectomeFolder:
    """One per archive and process: the table of regions is compared once."""
    folder = ConnectomeFolder(
        root,
        *regions,
        require="both" if require == "both" else "any",
        correlations=correlations,
    )
    folder.check_regions()
    return folder


def _plan_regions(plan: FederationPlan) -> tuple[int, str]:
    """How many regions, and the digest of their names: the model's options, else the atlas."""
    regions, digest = (plan.model.config.get(n) for n in ("regions", "parcellation_sha256"))
    if regions is not None and digest is not None:
        return int(regions), str(digest)
    return _atlas_regions(plan.atlas, plan.input.grid)


@cache
def _atlas_regions(section: AtlasSection, grid: ModelGrid) -> tuple[int, str]:
    from shared_model.atlas.select import load_atlas

    names = load_atlas(section, grid).names
    return len(names), parcellation_sha256(names)
