"""The region volumes of a scan as a model input, standardised with the plan's public constants."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from client.agent.durable import write_durably
from client.archive.nifti import read_volume
from client.archive.patients import Scan
from client.config import SiteConfig
from client.prepared.native_recipe import NativeRecipe
from client.prepared.resample import voxels_sha256
from client.preprocessing.aligned_volumes import aligned_volumes, recorded_volumes
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import atlas_of, load_atlas
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.plan import FederationPlan
from shared_model.volumes.reference import PACKAGED_SHA256, VolumeReference, find_reference

_MEASURED = "volumes-v1"


@dataclass(frozen=True)
class VolumeField:
    """Reads, or measures once and keeps, the volumes of a hospital's scans.

    Files hold patient data: they lie below ``state_dir`` and never leave.
    """

    config: SiteConfig
    plan: FederationPlan

    def of(self, scan: Scan) -> npt.NDArray[np.float32]:
        """``(R,)``; raises SMR-E648 (no reference) and SMR-E649 (volumes cannot be measured)."""
        if self.plan.input.preparation.source == "native":
            ml, brain_ml = self._recorded(scan)
        else:
            ml, brain_ml = self._measured(scan)
        if not np.isfinite(ml).all() or not brain_ml > 0:
            raise _unmeasured(f"a brain of {brain_ml:.1f} ml")
        return self.reference.standardised(ml, brain_ml)

    @cached_property
    def atlas(self) -> Atlas:
        """At 1 mm, for native and for aligned scans: a region's size does not hang on the grid."""
        return load_atlas(self.plan.atlas, ModelGrid(spacing_mm=1.0))

    @cached_property
    def reference(self) -> VolumeReference:
        """The plan's constants."""
        named = self.plan.model.config.get("reference_sha256") or PACKAGED_SHA256
        return find_reference(
            str(named), atlas_of(self.plan.atlas).sha256, self.config.weights_folders
        )

    def _recorded(self, scan: Scan) -> tuple[npt.NDArray[np.float64], float]:
        recipe = NativeRecipe(self.plan.input, self.plan.atlas, self.config.state_dir)
        source = recipe.store.files.sha256(scan.path)
        record = recipe.store.record(source)
        if record is None or not record.is_prepared:
            raise recipe.store.unprepared(source)
        if record.findings.get("tissues_plausible") is False:
            raise _unmeasured("a scan whose tissues are not in the order of T1")
        try:
            return recorded_volumes(record.regions, record.head, self.atlas)
        except KeyError as missing:
            raise _unmeasured(f"a record without {missing}") from None

    def _measured(self, scan: Scan) -> tuple[npt.NDArray[np.float64], float]:
        raw = read_volume(scan.path)
        known = f"{_MEASURED} {voxels_sha256(raw.voxels, raw.affine)} {self.atlas.sha256}"
        name = hashlib.sha256(known.encode()).hexdigest()
        path = self.config.state_dir / "volumes" / f"{name}.json"
        if path.exists():
            kept = json.loads(path.read_text("utf-8"))
            return np.asarray(kept["ml"], dtype=np.float64), float(kept["brain_ml"])
        ml, brain_ml = aligned_volumes(raw.voxels, raw.affine, self.atlas)
        write_durably(path, json.dumps({"brain_ml": brain_ml, "ml": ml.tolist()}).encode())
        return ml, brain_ml


def _unmeasured(found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E649",
        "the region volumes of a scan cannot be measured",
        expected="a brain with grey matter, white matter and fluid in the order of T1",
        found=found,
        remedy="look at the scan in derivatives/quality.html or the archive and exclude it, or use "
        "a model without region volumes",
    )
