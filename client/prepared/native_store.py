"""Prepared native scans on the hospital's disk, found by what they were made from."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from client.agent.durable import write_durably
from client.archive.patients import Scan
from client.archive.problems import Defect
from client.prepared.file_index import FileIndex
from client.prepared.no_room import no_room
from client.prepared.record import ScanRecord
from client.preprocessing.image import Mask, Volume
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid

if TYPE_CHECKING:
    from client.quality.fingerprint import Fingerprint

#: Part of every key: raise it with any change of what a prepared native voxel or record is.
NATIVE_VERSION = 1
_RECORD = ".json"
_VOLUME, _BRAIN, _PRINT, _MOSAIC = ".npy", ".brain.npy", ".print.npy", ".png"


@dataclass(frozen=True, eq=False)
class NativeScan:
    """Everything that is kept of one scan.

    Attributes:
        record: what was found, or why nothing was.
        volume: ``(D, H, W)`` float32 on the model grid; None with a defect.
        brain: ``(D, H, W)`` the brain there.
        fingerprint: for finding copies.
        mosaic: PNG for the quality page.
    """

    record: ScanRecord
    volume: Volume | None = None
    brain: Mask | None = None
    fingerprint: Fingerprint | None = None
    mosaic: bytes | None = None


class NativeStore:
    """Volumes (float16, memory-mapped), masks, records and pictures below ``state_dir/prepared``.

    A file's name is a digest of the scan's bytes and the recipe: a changed scan or plan never finds
    an old volume, and no name says whose it is. The record is written last and holds the digests of
    the others, so that a scan is there whole or not at all; two processes may work at once.

    Args:
        state_dir: the site's state folder.
        grid: the plan's grid.
        recipe: everything besides the scan that decides the result; JSON values.
    """

    def __init__(self, state_dir: Path, grid: ModelGrid, recipe: Mapping[str, Any]) -> None:
        self._folder = state_dir / "prepared"
        self._grid = grid
        grid_affine = grid.affine.tolist()
        whole = {"native": NATIVE_VERSION, "grid": [grid.shape, grid_affine], **recipe}
        self._recipe = json.dumps(whole, sort_keys=True)
        self._checked: set[str] = set()
        self.files = FileIndex(self._folder / "files.json")

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe."""
        return hashlib.sha256(self._recipe.encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self._folder

    def record(self, source_sha256: str) -> ScanRecord | None:
        """What is known of a scan, or None where it was not prepared with this recipe."""
        try:
            return ScanRecord.model_validate_json(self._path(source_sha256, _RECORD).read_bytes())
        except (OSError, ValidationError):
            return None

    def volume(self, scan: Scan) -> Volume:
        """``(D, H, W)`` float32 on the model grid.

        Raises SMR-E286 when the scan was not prepared, or its volume is damaged.
        """
        source = self.files.sha256(scan.path)
        if source not in self._checked:
            if not self.is_whole(source):
                raise self.unprepared(source)
            self._checked.add(source)
        return self.load_volume(source)

    def load_volume(self, source_sha256: str) -> Volume:
        """``(D, H, W)`` float32 of a scan by its digest. Raises SMR-E286."""
        kept = self._load(source_sha256, _VOLUME)
        if kept is None or kept.shape != self._grid.shape or kept.dtype != np.float16:
            raise self.unprepared(source_sha256)
        volume: Volume = kept.astype(np.float32)
        return volume

    def unprepared(self, source_sha256: str) -> SmrfedError:
        """SMR-E286 for a scan of the archive, or one whose prepared files are damaged."""
        return SmrfedError(
            "SMR-E286",
            "a scan that training needs is not prepared",
            expected=f"its volume below {self._folder}",
            found=f"none, or a damaged one, for the scan {source_sha256[:12]}",
            remedy="run smrfed-site prepare; it does only what is missing",
        )

    def brain(self, source_sha256: str) -> Mask | None:
        """``(D, H, W)`` the brain on the grid, or None."""
        bits = self._load(source_sha256, _BRAIN)
        count = int(np.prod(self._grid.shape))
        if bits is None or bits.dtype != np.uint8 or bits.size * 8 < count:
            return None
        mask: Mask = np.unpackbits(bits, count=count).reshape(self._grid.shape).astype(bool)
        return mask

    def fingerprint(self, source_sha256: str) -> Fingerprint | None:
        """For :mod:`client.quality.duplicates`, or None."""
        return self._load(source_sha256, _PRINT)

    def mosaic(self, source_sha256: str) -> bytes | None:
        """PNG, or None."""
        try:
            return self._path(source_sha256, _MOSAIC).read_bytes()
        except OSError:
            return None

    def is_whole(self, source_sha256: str) -> bool:
        """Whether nothing has to be done for a scan: all of it is there, as it was written."""
        record = self.record(source_sha256)
        if record is None or record.source_sha256 != source_sha256:
            return False
        if not record.is_prepared:
            return True
        try:
            return _VOLUME in record.files and all(
                self.files.sha256(self._path(source_sha256, suffix)) == digest
                for suffix, digest in record.files.items()
            )
        except Defect:
            return False

    def files_of(self, source_sha256: str) -> tuple[Path, ...]:
        """Where everything of a scan lies, whether or not it is there."""
        suffixes = (_RECORD, _VOLUME, _BRAIN, _PRINT, _MOSAIC)
        return tuple(self._path(source_sha256, suffix) for suffix in suffixes)

    def forget_failure(self, source_sha256: str) -> None:
        """Drop the record of a scan that could not be prepared, so that it is tried again."""
        record = self.record(source_sha256)
        if record is not None and not record.is_prepared:
            self._path(source_sha256, _RECORD).unlink(missing_ok=True)

    def save(self, scan: NativeScan) -> None:
        """Keep a scan. Raises SMR-E241 when it cannot be written."""
        source = scan.record.source_sha256
        try:
            parts = _parts(scan)
            for suffix, body in parts.items():
                write_durably(self._path(source, suffix), body)
            digests = {suffix: hashlib.sha256(body).hexdigest() for suffix, body in parts.items()}
            record = scan.record.model_copy(update={"files": digests})
            body = record.model_dump_json(indent=1).encode()
            write_durably(self._path(source, _RECORD), body)
        except OSError as error:
            raise no_room(self._folder, error) from None

    def _load(self, source: str, suffix: str) -> npt.NDArray[Any] | None:
        try:
            array: npt.NDArray[Any] = np.load(
                self._path(source, suffix), mmap_mode="r", allow_pickle=False
            )
        except (OSError, ValueError, EOFError):
            return None
        return array

    def _path(self, source: str, suffix: str) -> Path:
        key = hashlib.sha256(f"{source} {self._recipe}".encode()).hexdigest()
        return self._folder / key[:2] / f"{key}{suffix}"


def _parts(scan: NativeScan) -> dict[str, bytes]:
    """The files beside the record, by suffix."""
    parts: dict[str, bytes] = {}
    if scan.volume is not None:
        parts[_VOLUME] = _npy(scan.volume.astype(np.float16))
    if scan.brain is not None:
        parts[_BRAIN] = _npy(np.packbits(scan.brain))
    if scan.fingerprint is not None:
        parts[_PRINT] = _npy(scan.fingerprint)
    if scan.mosaic is not None:
        parts[_MOSAIC] = scan.mosaic
    return parts


def _npy(array: npt.NDArray[Any]) -> bytes:
    body = io.BytesIO()
    np.save(body, array, allow_pickle=False)
    return body.getvalue()
