"""Heads to calibrate with: the T1w images of BIDS folders, and DICOM series in archives."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from client.agent.durable import write_durably
from client.intake.convert import anonymous_nifti, converter


@dataclass(frozen=True)
class HeadFile:
    """A scan as acquired, and what it is called in tables."""

    name: str
    path: Path


def find_heads(data: Path, out: Path, limit: int | None = None) -> tuple[HeadFile, ...]:
    """Heads below ``data/bids`` and ``data/dicom``, the first ``limit`` of them.

    DICOM series are converted once, below ``out/nifti``, by the converter of the intake, without
    its choice among series: an archive here holds one.
    """
    scans = sorted(data.glob("bids/*/*/anat/*_T1w.nii.gz"))
    found = [HeadFile(f"{p.parents[2].name} {p.parents[1].name}", p) for p in scans]
    for archive in sorted(data.glob("dicom/*.tar.gz")):
        name = archive.name.removesuffix(".tar.gz")
        if limit is None or len(found) < limit:
            found.append(HeadFile(name, _converted(archive, out / "nifti" / f"{name}.nii.gz")))
    return tuple(found[:limit])


def _converted(archive: Path, path: Path) -> Path:
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(prefix="smrfed-dicom-") as folder:
        dicom, nifti = Path(folder, "dicom"), Path(folder, "nifti")
        nifti.mkdir()
        with tarfile.open(archive) as tar:
            tar.extractall(dicom, filter="data")
        command = [converter(), "-z", "n", "-b", "n", "-f", "t1w", "-d", "9", "-o", str(nifti)]
        subprocess.run([*command, str(dicom)], check=True, stdout=subprocess.DEVNULL)
        (made,) = nifti.glob("*.nii")
        write_durably(path, anonymous_nifti(made.read_bytes()))
    return path
