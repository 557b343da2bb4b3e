"""From the files of one DICOM series to one NIfTI volume that says nothing about the patient."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import re
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from client.archive.nifti import check_header
from client.archive.problems import Defect, Problem
from client.intake.geometry import Stack
from shared_model.errors import SmrfedError

#: Raise it with any change of what is written for a series.
CONVERTER_VERSION = 1
#: (offset, bytes) in a NIfTI-1 header of the free texts: data_type, db_name, descrip, aux_file,
#: intent_name.
_TEXTS = ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16))
_HEADER = 348
_DATA_OFFSET = 352
#: dcm2niix's endings of what is no magnitude volume of the series.
_BY_PRODUCT = re.compile(r"(_ph|_real|_imaginary|_ROI\d*|_i\d{5}|_MoCo)$")
#: Preferred ones first: gantry tilt and uneven distances corrected.
_CORRECTED = ("_Tilt_Eq", "_Eq", "_Tilt")

_NUMBERS = (
    "MagneticFieldStrength", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle",
    "SliceThickness",
)  # fmt: skip
_VENDORS = {
    "siemens": "Siemens", "ge": "GE", "philips": "Philips", "uih": "UIH", "united imaging": "UIH",
    "canon": "Canon", "toshiba": "Canon", "hitachi": "Hitachi", "bruker": "Bruker",
}  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """One volume.

    Attributes:
        nifti: the file's bytes, gzipped.
        sidecar: technical fields only.
        warnings: what was chosen among several volumes.
    """

    nifti: bytes
    sidecar: Mapping[str, Any]
    warnings: tuple[str, ...]


def convert(volume: Stack, folder: Path, device_hash: str | None, timeout_s: float) -> Converted:
    """Convert the files of a series with dcm2niix, and remove everything but voxels and geometry.

    Args:
        volume: the chosen planes.
        folder: private; a folder of links to the files lives in it for the time of the conversion.
        device_hash: keyed hash of the scanner's serial number.
        timeout_s: for dcm2niix, seconds.

    Raises a Defect (SMR-E251) when dcm2niix fails or the result is not the volume expected. Neither
    its output nor any name goes into messages: both quote the header.
    """
    with tempfile.TemporaryDirectory(prefix=".work-", dir=folder) as temporary:
        inputs, outputs = Path(temporary, "in"), Path(temporary, "out")
        inputs.mkdir()
        outputs.mkdir()
        for number, file in enumerate(volume.files):
            (inputs / f"{number:06d}.dcm").symlink_to(file.path.resolve())
        _run(inputs, outputs, timeout_s)
        path, warnings = _choose(outputs)
        _check(path, volume)
        sidecar = _sidecar(path, device_hash)
        return Converted(anonymous_nifti(path.read_bytes()), sidecar, warnings)


def converter() -> str:
    """The path of dcm2niix, from its wheel. Raises SMR-E261 when it is not installed."""
    try:
        program: str = importlib.import_module("dcm2niix").bin
    except ImportError:
        program = ""
    if not program or not Path(program).is_file():
        raise SmrfedError(
            "SMR-E261",
            "DICOM files cannot be converted on this machine",
            expected="the Python package dcm2niix with its program",
            found=program or "no such package",
            remedy="install smrfed with its site extra: pip install 'smrfed[site]'",
        )
    return program


def _run(inputs: Path, outputs: Path, timeout_s: float) -> None:
    # Not compressed: the header is rewritten anyway, and compressing once is enough.
    command = [converter(), "-z", "n", "-b", "y", "-ba", "y", "-f", "t1w", "-d", "0", "-w", "1"]
    try:
        done = subprocess.run(
            [*command, "-o", str(outputs), str(inputs)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Defect(Problem.NOT_CONVERTED, f"dcm2niix was stopped after {timeout_s:g} s") from None
    except OSError as error:
        raise Defect(Problem.NOT_CONVERTED, f"dcm2niix does not start: {error.strerror}") from None
    if done.returncode != 0 and not any(outputs.glob("*.nii")):
        raise Defect(Problem.NOT_CONVERTED, f"dcm2niix ended with code {done.returncode}")


def _choose(outputs: Path) -> tuple[Path, tuple[str, ...]]:
    """The one 3-D volume; of several the corrected one, then the first echo, then the largest."""
    volumes = []
    for path in sorted(outputs.glob("*.nii")):
        shape = nibabel.load(str(path)).shape
        if _BY_PRODUCT.search(path.stem) is None and len(shape) == 3 and min(shape) > 1:
            volumes.append((path, math.prod(shape)))
    if not volumes:
        count = len(list(outputs.glob("*.nii")))
        raise Defect(Problem.NOT_CONVERTED, f"{count} images, none of them one 3-D volume")

    def place(item: tuple[Path, int]) -> tuple[int, str, int, str]:
        stem = item[0].stem
        corrected = [stem.endswith(ending) for ending in _CORRECTED]
        echo = re.search(r"_e(\d+)", stem)
        first = corrected.index(True) if any(corrected) else len(corrected)
        return first, echo[1].zfill(3) if echo else "", -item[1], stem

    best = min(volumes, key=place)[0]
    if len(volumes) == 1:
        return best, ()
    return best, (f"one of {len(volumes)} volumes that dcm2niix made of it was taken",)


def _check(path: Path, volume: Stack) -> None:
    """The converted image must have the planes that went in, unless it had to be resampled."""
    try:
        check_header(path)
    except Defect as defect:
        what = defect.case.removeprefix(f"{path}: ")
        raise Defect(Problem.NOT_CONVERTED, f"the result is not usable: {what}") from None
    shape = nibabel.load(str(path)).shape
    plane = volume.files[0].slices[0]
    expected = sorted((volume.slices, plane.rows, plane.columns))
    resampled = path.stem.endswith(_CORRECTED)
    if sorted(shape) != expected and not resampled:
        found = " x ".join(map(str, sorted(shape)))
        wanted = " x ".join(map(str, expected))
        raise Defect(Problem.NOT_CONVERTED, f"{found} voxels from planes that make {wanted}")


def anonymous_nifti(content: bytes) -> bytes:
    """A single-file NIfTI-1, gzipped: the voxels and geometry of ``content``, and no text at all.

    Texts of the header and extensions are removed; the gzip header has no name and no time. Raises
    a Defect (SMR-E251) for bytes that are no NIfTI-1.
    """
    if len(content) < _DATA_OFFSET or content[344:347] != b"n+1":
        raise Defect(Problem.NOT_CONVERTED, "the result is no NIfTI-1 file")
    little = struct.unpack_from("<i", content)[0] == _HEADER
    order = "<" if little else ">"
    (offset,) = struct.unpack_from(f"{order}f", content, 108)
    header = bytearray(content[:_HEADER])
    for start, length in _TEXTS:
        header[start : start + length] = bytes(length)
    struct.pack_into(f"{order}f", header, 108, float(_DATA_OFFSET))
    voxels = content[int(max(offset, _DATA_OFFSET)) :]
    shape = struct.unpack_from(f"{order}8h", content, 40)
    (bits,) = struct.unpack_from(f"{order}h", content, 72)
    # What comes after the voxels is not needed, and nobody knows what it holds.
    voxels = voxels[: math.prod(shape[1 : 1 + shape[0]]) * bits // 8]
    return gzip.compress(bytes(header) + bytes(4) + voxels, compresslevel=5, mtime=0)


def _sidecar(path: Path, device_hash: str | None) -> dict[str, Any]:
    """The allow-list: numbers, known words and the scanner's model; nothing else is let through."""
    try:
        fields = json.loads(path.with_suffix(".json").read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        fields = {}
    image = nibabel.load(str(path))
    size = np.linalg.norm(np.asarray(image.affine, np.float64)[:3, :3], axis=0)
    out: dict[str, Any] = {"Modality": "MR", "VoxelSizeMm": [round(float(mm), 4) for mm in size]}
    for name in _NUMBERS:
        value = fields.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            out[name] = value
    maker = str(fields.get("Manufacturer", "")).casefold()
    if maker:
        known = (vendor for start, vendor in _VENDORS.items() if maker.startswith(start))
        out["Manufacturer"] = next(known, "other")
    model = fields.get("ManufacturersModelName")
    if isinstance(model, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9 ._+/-]{0,39}", model):
        out["ManufacturersModelName"] = model
    if fields.get("MRAcquisitionType") in ("2D", "3D"):
        out["MRAcquisitionType"] = fields["MRAcquisitionType"]
    words = fields.get("ImageType")
    if isinstance(words, Sequence) and not isinstance(words, str):
        out["ImageType"] = [word for word in words if word in _IMAGE_TYPES]
    out["ConversionSoftware"] = "dcm2niix"
    version = fields.get("ConversionSoftwareVersion")
    if isinstance(version, str) and re.fullmatch(r"v[0-9.]{3,20}", version):
        out["ConversionSoftwareVersion"] = version
    if device_hash is not None:
        out["DeviceHash"] = device_hash
    return out


_IMAGE_TYPES = {
    "ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "OTHER", "M", "ND", "NORM", "DIS2D", "DIS3D",
    "FFE", "M_FFE", "M_SE", "SE", "IR", "M_IR", "FM4_1", "MPR", "REFORMATTED", "AVERAGE", "UNI",
    "MAGNITUDE", "NONE", "VOLUME", "T1", "MFSPLIT", "RESAMPLED", "FIL", "DENOISED", "MEAN", "RMS",
}  # fmt: skip
