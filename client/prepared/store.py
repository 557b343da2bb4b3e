"""Prepared scans on the hospital's disk, found by what they were made from."""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.agent.durable import write_durably
from client.archive.content import file_sha256
from client.archive.patients import Patient, Scan
from client.archive.problems import Defect, Problem, Problems
from client.prepared.intensity import Intensity
from client.prepared.pipeline import PIPELINE_VERSION, prepare_scan
from client.prepared.resample import Volume
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid

#: Called with how many of how many scans are done.
Progress = Callable[[int, int], None]


class PreparedStore:
    """Model inputs of scans, computed once and kept as float16 below ``state_dir/prepared``.

    A file's name is a digest of the scan's bytes, the grid, the intensity and the version of the
    pipeline: a changed scan or plan never finds an old volume, and no name says whose it is. Files
    appear whole, so a stopped preparation goes on where it was, and two processes may work at once.

    Args:
        state_dir: the site's state folder.
        grid: the plan's grid.
        intensity: the plan's standardisation.
    """

    def __init__(self, state_dir: Path, grid: ModelGrid, intensity: Intensity) -> None:
        self._folder = state_dir / "prepared"
        self._grid = grid
        self._intensity: Intensity = intensity

    def volume(self, scan: Scan) -> Volume:
        """``(D, H, W)`` float32 on the model grid; the same whether it was kept or made just now.

        Raises SMR-E212 to E215 for an image that cannot be used, SMR-E240 for one without a brain
        in MNI152 space, SMR-E241 when the result cannot be kept.
        """
        try:
            kept = self._load(self._path(file_sha256(scan.path)))
            return self._make(scan.path)[0] if kept is None else kept
        except Defect as defect:
            raise defect.error() from None

    def voxels_sha256(self, path: Path) -> str:
        """Digest of a scan's voxels in RAS+; prepared if it was not. Raises SMR-E212 to E240."""
        try:
            return self._ensure(path)
        except Defect as defect:
            raise defect.error() from None

    def prepare(self, patients: Sequence[Patient], progress: Progress | None = None) -> None:
        """Make what is missing for all scans, and look for images filed under several people.

        ``progress`` is called once per scan. All scans are looked at before anything is raised, so
        that one run shows everything: SMR-E212 to E215, E218, E240; SMR-E241 at once.
        """
        problems = Problems()
        owners: defaultdict[str, dict[str, Path]] = defaultdict(dict)
        scans = [(patient, scan) for patient in patients for scan in patient.scans]
        for done, (patient, scan) in enumerate(scans, start=1):
            with problems.noting():
                owners[self._ensure(scan.path)][patient.id] = scan.path
            if progress is not None:
                progress(done, len(scans))
        for files in owners.values():
            if len(files) > 1:
                problems.add(Problem.DUPLICATE_IMAGE, " = ".join(map(str, files.values())))
        problems.raise_any()

    def files_of(self, source_sha256: str) -> tuple[Path, Path]:
        """Where a scan's volume and its provenance lie, whether or not they are there."""
        volume = self._path(source_sha256)
        return volume, _provenance(volume)

    def _ensure(self, path: Path) -> str:
        """Make the volume if it is missing; the digest of the scan's voxels."""
        prepared = self._path(file_sha256(path))
        if self._load(prepared) is not None:
            try:
                known = json.loads(_provenance(prepared).read_text("utf-8"))["voxels_sha256"]
            except (OSError, ValueError, KeyError):
                known = None
            if isinstance(known, str):
                return known
        return self._make(path)[1]

    def _make(self, path: Path) -> tuple[Volume, str]:
        scan = prepare_scan(path, self._grid, self._intensity)
        kept = scan.volume.astype(np.float16)
        content = io.BytesIO()
        np.save(content, kept, allow_pickle=False)
        target = self._path(scan.source_sha256)
        origin = {
            **self._recipe(scan.source_sha256),
            "voxels_sha256": scan.voxels_sha256,
            "brain_ml": round(scan.brain_ml, 1),
        }
        try:
            write_durably(_provenance(target), json.dumps(origin, indent=1).encode())
            write_durably(target, content.getvalue())
        except OSError as error:
            raise SmrfedError(
                "SMR-E241",
                f"cannot keep prepared scans below {self._folder}",
                expected=f"a writable folder with {len(content.getvalue())} bytes free per scan",
                found=error.strerror or error,
                remedy="free space or correct the folder's permissions, then start again: finished "
                "scans are kept",
            ) from None
        return kept.astype(np.float32), scan.voxels_sha256

    def _load(self, path: Path) -> Volume | None:
        """The kept volume, or None where it is absent or damaged."""
        try:
            kept: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if kept.shape != self._grid.shape or kept.dtype != np.float16:
            return None
        volume: Volume = kept.astype(np.float32)
        return volume

    def _recipe(self, source_sha256: str) -> dict[str, Any]:
        return {
            "pipeline": PIPELINE_VERSION,
            "source_sha256": source_sha256,
            "grid": {"shape": self._grid.shape, "affine": self._grid.affine.tolist()},
            "intensity": self._intensity,
        }

    def _path(self, source_sha256: str) -> Path:
        recipe = json.dumps(self._recipe(source_sha256), sort_keys=True).encode()
        key = hashlib.sha256(recipe).hexdigest()
        return self._folder / key[:2] / f"{key}.npy"


def _provenance(volume: Path) -> Path:
    return volume.with_suffix(".json")
