"""One native scan through all steps, measured and pictured."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from client.archive.nifti import RawVolume, read_volume
from client.archive.problems import Defect, Problem
from client.prepared.native_recipe import NativeRecipe
from client.prepared.native_store import NativeScan
from client.prepared.record import ScanDefect, ScanRecord
from client.prepared.resample import voxels_sha256
from client.preprocessing.image import Image, Work
from client.preprocessing.label_image import refuse_labels
from client.preprocessing.region_volumes import region_volumes
from client.quality.fingerprint import fingerprint
from client.quality.header import read_header
from client.quality.measures import measure_scan
from client.quality.mosaic import scan_mosaic
from shared_model.errors import SmrfedError

_log = logging.getLogger(__name__)


def prepare_native_scan(recipe: NativeRecipe, path: Path) -> None:
    """Prepare one scan and keep it, or keep why it cannot be prepared.

    Deterministic, and a function of this scan and public values alone. A file that cannot be read
    to its end has no digest: nothing is kept of it, and the archive's survey or the assessment
    tells. Raises SMR-E241 when there is no room, and MemoryError: another process may have taken
    the memory. Every other failure is this scan's, and is recorded.
    """
    try:
        source = recipe.store.files.sha256(path)
    except Defect:
        return
    try:
        raw = read_volume(path)
        # The file's own digest, should it have changed since.
        source = raw.file_sha256
        scan = _prepared(recipe, raw, path)
    except Defect as defect:
        scan = NativeScan(failed(source, defect, path))
    except (SmrfedError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and "memory" in str(error).lower():
            # How torch and ITK say it, on either device.
            raise MemoryError(str(error)) from None
        # One scan that a library stumbles over must not stop the two hundred after it.
        trace = traceback.format_exc().replace(str(path), "its file")
        _log.error("scan %s\n%s", source[:12], trace)
        unforeseen = Defect(Problem.STEP_FAILED, f"{type(error).__name__}: {error}")
        scan = NativeScan(failed(source, unforeseen, path))
    recipe.store.save(scan)


def failed(source_sha256: str, defect: Defect, path: Path) -> ScanRecord:
    """The record of a scan that could not be prepared."""
    return ScanRecord(source_sha256=source_sha256, defect=ScanDefect.of(defect, str(path)))


def _prepared(recipe: NativeRecipe, raw: RawVolume, path: Path) -> NativeScan:
    header = read_header(path, raw.voxels)
    refuse_labels(raw.voxels, header.grey_levels)
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
