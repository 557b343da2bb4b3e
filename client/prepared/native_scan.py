"""One native scan through all steps, measured and pictured."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from client.archive.nifti import RawVolume, read_volume
from client.archive.problems import Defect, Problem
from client.prepared.native_store import NativeScan, NativeStore
from client.prepared.record import ScanDefect, ScanRecord
from client.prepared.resample import voxels_sha256
from client.preprocessing.bias_field import CorrectBiasField
from client.preprocessing.brain_extraction import ExtractBrain
from client.preprocessing.chain import Chain, step_identity
from client.preprocessing.checkpoints import Checkpoints
from client.preprocessing.greys import StandardiseGreys
from client.preprocessing.image import Image, Step, Work
from client.preprocessing.region_volumes import region_volumes
from client.preprocessing.registration import RegisterToMNI
from client.preprocessing.reorient import Reorient
from client.preprocessing.resample_step import Resample
from client.quality.fingerprint import FINGERPRINT_VERSION, fingerprint
from client.quality.header import read_header
from client.quality.measures import measure_scan
from client.quality.mosaic import scan_mosaic
from client.quality.scan_measures import MEASURES_VERSION
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.plan import AtlasSection, InputSection

_log = logging.getLogger(__name__)
# Steps whose result is kept: half a minute each, and what follows them takes seconds.
_KEPT = frozenset({"bias_field", "registration"})


@dataclass(frozen=True)
class NativeRecipe:
    """What a plan asks for of native scans; sent to every process that prepares some.

    Attributes:
        input: the plan's section.
        atlas: the plan's atlas, for region volumes.
        state_dir: the site's state folder.
    """

    input: InputSection
    atlas: AtlasSection
    state_dir: Path

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """From the scan to the standardised volume."""
        preparation, grid = self.input.preparation, self.input.grid
        return (
            Reorient.of(preparation),
            ExtractBrain.of(preparation),
            CorrectBiasField.of(preparation),
            RegisterToMNI.of(preparation),
            Resample.of(preparation, grid),
        )

    @cached_property
    def greys(self) -> StandardiseGreys:
        """The last step, after everything was measured in the scan's own greys."""
        return StandardiseGreys(self.input.intensity, self.input.preparation.brain_extraction.strip)

    @cached_property
    def identity(self) -> tuple[dict[str, Any], ...]:
        """Name, version and parameters of every step."""
        return tuple(step_identity(step) for step in (*self.steps, self.greys))

    @cached_property
    def loaded_atlas(self) -> Atlas:
        """The atlas at 1 mm: volumes are counted in the scan's own voxels, not the model's."""
        return load_atlas(self.atlas, ModelGrid(spacing_mm=1.0))

    @cached_property
    def store(self) -> NativeStore:
        """Where the results are kept."""
        recipe = {
            "steps": self.identity,
            "measures": MEASURES_VERSION,
            "fingerprint": FINGERPRINT_VERSION,
            "atlas": self.loaded_atlas.sha256,
        }
        return NativeStore(self.state_dir, self.input.grid, recipe)

    @cached_property
    def chain(self) -> Chain:
        """The steps, with what is kept between them."""
        return Chain(self.steps, Checkpoints(self.state_dir / "prepared" / "steps"), _KEPT)


def prepare_native_scan(recipe: NativeRecipe, path: Path) -> ScanRecord:
    """Prepare one scan and keep it, or keep why it cannot be prepared.

    Deterministic, and a function of this scan and public values alone. Raises SMR-E241 when there
    is no room; every other failure is this scan's, and is recorded.
    """
    try:
        raw = read_volume(path)
    except Defect as defect:
        source = recipe.store.files.sha256(path)
        return _keep(recipe, NativeScan(_failed(source, defect, path)))
    try:
        return _keep(recipe, _prepared(recipe, raw, path))
    except Defect as defect:
        return _keep(recipe, NativeScan(_failed(raw.file_sha256, defect, path)))
    except (SmrfedError, OSError):
        raise
    except Exception as error:
        # One scan that a library stumbles over must not stop the two hundred after it.
        _log.exception("scan %s", raw.file_sha256[:12])
        unforeseen = Defect(Problem.STEP_FAILED, f"{type(error).__name__}: {error}")
        return _keep(recipe, NativeScan(_failed(raw.file_sha256, unforeseen, path)))


def _prepared(recipe: NativeRecipe, raw: RawVolume, path: Path) -> NativeScan:
    header = read_header(path, raw.voxels)
    work = recipe.chain.run(Image(raw.voxels, raw.affine), raw.file_sha256)
    volumes = dict(region_volumes(work, recipe.loaded_atlas).as_json())
    regions, plausible = volumes.pop("regions"), volumes.pop("tissues_plausible")
    assert work.to_mni is not None
    assert work.on_grid is not None
    assert work.brain_on_grid is not None
    record = ScanRecord(
        source_sha256=raw.file_sha256,
        voxels_sha256=voxels_sha256(raw.voxels, raw.affine),
        measures=measure_scan(work, header, recipe.input.grid),
        findings={**work.findings, "tissues_plausible": plausible},
        to_mni=tuple(tuple(float(x) for x in row) for row in work.to_mni),
        regions=regions,
        head=volumes,
        steps=recipe.identity,
    )
    finished: Work = recipe.greys(work)
    return NativeScan(
        record,
        finished.on_grid,
        work.brain_on_grid,
        fingerprint(work.on_grid, work.brain_on_grid, recipe.input.grid),
        scan_mosaic(work),
    )


def _failed(source_sha256: str, defect: Defect, path: Path) -> ScanRecord:
    return ScanRecord(source_sha256=source_sha256, defect=ScanDefect.of(defect, str(path)))


def _keep(recipe: NativeRecipe, scan: NativeScan) -> ScanRecord:
    recipe.store.save(scan)
    return scan.record
