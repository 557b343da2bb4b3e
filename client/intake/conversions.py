"""Converted series that are kept, found by a keyed hash of the files they were made from."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.agent.durable import make_private_folder, write_durably
from client.archive.problems import Defect, Problem
from client.intake.bids_writer import cannot_write
from client.intake.convert import CONVERTER_VERSION, convert
from client.intake.geometry import Stack
from client.intake.series import SeriesFile


@dataclass(frozen=True)
class Kept:
    """A converted scan in the store; ``new`` when it was made just now."""

    nifti: Path
    sidecar: Path
    warnings: tuple[str, ...]
    new: bool


class Conversions:
    """The store; files appear whole, so that an intake goes on where it was stopped.

    Args:
        folder: private.
        key: the site's pseudonym key: names of files say nothing to others.
        timeout_s: for one conversion, seconds.
    """

    def __init__(self, folder: Path, key: bytes, timeout_s: float) -> None:
        self._folder = folder
        self._key = key
        self._timeout_s = timeout_s

    def open(self) -> None:
        """Make the folder, and remove what a stopped intake left in it."""
        make_private_folder(self._folder)
        for work in self._folder.glob(".work-*"):
            shutil.rmtree(work, ignore_errors=True)

    def get(self, volume: Stack, device_hash: str | None) -> Kept:
        """The converted volume, kept or made now.

        Raises a Defect (SMR-E251) for a series that cannot be converted, and SMR-E264 when the
        result cannot be kept.
        """
        try:
            name = self.name(volume.files)
        except OSError:
            raise Defect(Problem.NOT_CONVERTED, "a file cannot be read") from None
        try:
            return self._kept_or_made(name, volume, device_hash)
        except OSError as error:
            raise cannot_write(self._folder, error) from None

    def _kept_or_made(self, name: str, volume: Stack, device_hash: str | None) -> Kept:
        sidecar = self._folder / f"{name}.json"
        nifti = self._folder / f"{name}.nii.gz"
        notes = self._folder / f"{name}.notes"
        # The notes come last: with them everything is there.
        if notes.exists() and sidecar.exists() and nifti.exists():
            return Kept(nifti, sidecar, tuple(json.loads(notes.read_text("utf-8"))), new=False)
        made = convert(volume, self._folder, device_hash, self._timeout_s)
        write_durably(nifti, made.nifti)
        write_durably(sidecar, json.dumps(dict(made.sidecar), indent=1).encode())
        write_durably(notes, json.dumps(made.warnings).encode())
        return Kept(nifti, sidecar, made.warnings, new=True)

    def name(self, files: Sequence[SeriesFile]) -> str:
        """Keyed hash of the files' identifiers and sizes, and of the converter's version."""
        parts = sorted((file.sop_uid or _content(file.path), file.size) for file in files)
        message = json.dumps(["smrfed series", CONVERTER_VERSION, parts]).encode()
        return hmac.digest(self._key, message, hashlib.sha256).hex()

    def keep_only(self, used: Collection[Path]) -> None:
        """Remove every conversion whose image is not in ``used``: its files left the archive."""
        stems = {path.name.split(".")[0] for path in used}
        for path in self._folder.iterdir():
            if path.is_file() and path.name.split(".")[0] not in stems:
                path.unlink(missing_ok=True)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
