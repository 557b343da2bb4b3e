"""Real DICOM files of a synthetic head, as scanners of several vendors write them.

::

    write_series(tmp_path / "export", SIEMENS_MPRAGE, Identity("0042", name="DOE^JANE"))
    write_series(folder, GE_BRAVO, person, Visit("20210304"), missing={30, 31})
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pydicom
from bids_fixture import template
from dicom_protocols import SOP_CLASS, SPACING_MM, Protocol
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from shared_model.grid import ModelGrid


@dataclass(frozen=True)
class Identity:
    """What a header says about the patient."""

    patient_id: str
    name: str = "SYNTHETIC^HEAD"
    birth_date: str = "19480229"
    sex: str = "F"
    age: str = ""
    accession: str = ""
    institution: str = ""
    operator: str = ""
    issuer: str = ""
    serial: str = "45123"


@dataclass(frozen=True)
class Study:
    """One visit; ``number`` tells studies of the same day apart."""

    date: str = "20200615"
    time: str = "101500"
    number: int = 1


@functools.cache
def head(person: str = "") -> npt.NDArray[np.int16]:
    """``(X, Y, Z)`` RAS+ greys of a head of 2 mm voxels, a bright spot at its left front.

    Another person has other noise.
    """
    seed = int.from_bytes(person.encode()[:8] or b"\0")
    noise = np.random.default_rng(seed).normal(0, 10, template(SPACING_MM).shape)
    volume = np.abs(template(SPACING_MM) * 8 + noise).astype(np.int16)
    volume[20:24, 80:84, 50:54] = 3000
    return volume


def write_series(
    folder: Path,
    protocol: Protocol,
    person: Identity,
    study: Study = Study(),
    *,
    missing: Collection[int] = (),
    cut_short: Collection[int] = (),
    preamble: bool = True,
    enhanced: bool = False,
    volume: npt.NDArray[np.int16] | None = None,
    naming: Literal["numbers", "uid", "IMA"] = "numbers",
) -> list[Path]:
    """Write the files of one series; returns their paths.

    Args:
        folder: made where it is missing.
        protocol: the series.
        person: the patient.
        study: the visit.
        missing: indices of slices that are not written.
        cut_short: indices of slices whose files end too early.
        preamble: without, files begin with the first element, as very old exports do.
        enhanced: all slices in one multi-frame file.
        volume: ``(88, 104, 88)`` RAS+ greys of 2 mm voxels; none: :func:`head` of the patient.
        naming: of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study_uid = _uid(person.patient_id, person.issuer, str(study))
    series_uid = _uid(study_uid, str(protocol.number))
    planes = _planes(protocol, head(person.patient_id) if volume is None else volume)
    if enhanced:
        whole = _header(protocol, person, study, study_uid, series_uid, series_uid + ".1")
        _make_enhanced(whole, protocol, planes)
        return [_save(whole, folder / "ENHANCED", preamble)]
    written = []
    first: tuple[object, bytes, str, str] | None = None
    for index, (pixels, position, orientation) in enumerate(planes):
        uid, place = f"{series_uid}.{index + 1001}", "\\".join(f"{mm:+010.4f}" for mm in position)
        if first is None or first[0] != (orientation, pixels.shape):
            image = _header(protocol, person, study, study_uid, series_uid, uid)
            image.InstanceNumber = index + 1001
            image.ImagePositionPatient = place
            image.ImageOrientationPatient = orientation
            image.PixelSpacing = [SPACING_MM, SPACING_MM]
            image.SliceThickness = protocol.slice_mm
            _add_pixels(image, pixels, protocol.colour)
            path = _save(image, folder / "first", preamble)
            first = ((orientation, pixels.shape), path.read_bytes(), uid, place)
            path.unlink()
        if index in missing:
            continue
        # Encoding every slice anew takes ten times as long.
        data = _pixel_bytes(pixels, protocol.colour)
        head_bytes = first[1][: len(first[1]) - len(data)]
        head_bytes = head_bytes.replace(first[2].encode(), uid.encode())
        head_bytes = head_bytes.replace(first[3].encode(), place.encode())
        for element in (b"\x20\0\x13\0IS\x04\0", b"\x20\0\x13\0\x04\0\0\0"):
            number = first[2][-4:].encode()
            head_bytes = head_bytes.replace(element + number, element + uid[-4:].encode())
        content = head_bytes + data
        name = {"numbers": f"{index:05d}", "uid": uid, "IMA": f"MR.{uid}.IMA"}[naming]
        path = folder / (f"S{protocol.number:03d}I{name}" if naming == "numbers" else name)
        path.write_bytes(content[: len(content) // 2] if index in cut_short else content)
        written.append(path)
    return written


_Plane = tuple[npt.NDArray[np.int16], npt.NDArray[np.float64], list[float]]


def _planes(protocol: Protocol, volume: npt.NDArray[np.int16]) -> list[_Plane]:
    """Pixels ``(rows, columns)``, position and orientation (LPS) of every slice."""
    affine = ModelGrid(spacing_mm=SPACING_MM).affine
    to_lps = np.array([-1.0, -1.0, 1.0])
    x_end, y_end, z_end = (side - 1 for side in volume.shape)

    def place(x: float, y: float, z: float) -> npt.NDArray[np.float64]:
        return np.asarray((affine @ [x, y, z, 1.0])[:3] * to_lps)

    step = round(protocol.slice_mm / SPACING_MM)
    axial: list[_Plane] = [
        (volume[::-1, ::-1, z].T, place(x_end, y_end, z), [1, 0, 0, 0, 1, 0])
        for z in range(0, z_end + 1, step)
    ]
    count = protocol.slices
    if protocol.planes == "axial":
        return axial if count is None else axial[20 : 20 + count]
    coronal: list[_Plane] = [
        (volume[::-1, y, ::-1].T, place(x_end, y, z_end), [1, 0, 0, 0, 0, -1])
        for y in range(30, y_end, 8)
    ]
    sagittal: list[_Plane] = [
        (volume[x, ::-1, ::-1].T, place(x, y_end, z_end), [0, 1, 0, 0, 0, -1])
        for x in range(30, x_end, 8)
    ]
    return [*axial[20:70:8][:count], *coronal[:count], *sagittal[:count]]


def _uid(*parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"1.2.826.{int.from_bytes(digest[:12])}"


def _header(
    protocol: Protocol, person: Identity, study: Study, study_uid: str, series_uid: str, uid: str
) -> Dataset:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPClassUID = protocol.sop_class
    image.SOPInstanceUID = uid
    image.StudyInstanceUID = study_uid
    image.SeriesInstanceUID = series_uid
    image.SeriesNumber = protocol.number
    image.Modality = protocol.modality
    _unchecked(image, 0x00080020, "DA", study.date)
    _unchecked(image, 0x00080022, "DA", study.date)
    image.StudyTime = study.time
    image.AccessionNumber = person.accession
    image.InstitutionName = person.institution
    image.OperatorsName = person.operator
    image.ReferringPhysicianName = person.operator
    image.StudyDescription = f"{person.name} {person.accession}"
    image.PatientName = person.name
    image.PatientID = person.patient_id
    if person.issuer:
        image.IssuerOfPatientID = person.issuer
    _unchecked(image, 0x00100030, "DA", person.birth_date)
    image.PatientSex = person.sex
    image.PatientComments = f"born {person.birth_date}"
    _unchecked(image, 0x00101010, "AS", person.age)
    image.DeviceSerialNumber = person.serial
    image.StationName = person.institution[:16]
    image.FrameOfReferenceUID = f"{study_uid}.7"
    image.PatientPosition = "HFS"
    private = image.private_block(0x0019, "SYNTHETIC", create=True)
    private.add_new(0x01, "LO", f"{person.name} {person.operator}")
    for keyword, value in protocol.tags.items():
        setattr(image, keyword, value)
    return image


def _unchecked(image: Dataset, tag: int, vr: str, value: str) -> None:
    """Write what a scanner should not write."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.add_new(tag, vr, value)


def _add_pixels(image: Dataset, pixels: npt.NDArray[np.int16], colour: bool) -> None:
    image.Rows, image.Columns = pixels.shape[-2:]
    image.SamplesPerPixel = 3 if colour else 1
    image.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    bits = 8 if colour else 16
    image.BitsAllocated, image.BitsStored, image.HighBit = bits, bits, bits - 1
    image.PixelRepresentation = 0 if colour else 1
    if colour:
        image.PlanarConfiguration = 0
    image.PixelData = _pixel_bytes(pixels, colour)


def _pixel_bytes(pixels: npt.NDArray[np.int16], colour: bool) -> bytes:
    if colour:
        return np.repeat(pixels.astype(np.uint8), 3).tobytes()
    return np.ascontiguousarray(pixels, "<i2").tobytes()


def _make_enhanced(image: Dataset, protocol: Protocol, planes: list[_Plane]) -> None:
    image.SOPClassUID = SOP_CLASS + "4.1"
    timing, echo, measures, frames = Dataset(), Dataset(), Dataset(), []
    timing.RepetitionTime = image.pop("RepetitionTime").value
    timing.FlipAngle = image.pop("FlipAngle").value
    echo.EffectiveEchoTime = float(image.pop("EchoTime").value)
    measures.PixelSpacing = [SPACING_MM, SPACING_MM]
    measures.SliceThickness = protocol.slice_mm
    shared = Dataset()
    shared.MRTimingAndRelatedParametersSequence = Sequence([timing])
    shared.MREchoSequence = Sequence([echo])
    shared.PixelMeasuresSequence = Sequence([measures])
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    for number, (_, position, orientation) in enumerate(planes, start=1):
        frame, where, turn, content = Dataset(), Dataset(), Dataset(), Dataset()
        where.ImagePositionPatient = [f"{mm:.4f}" for mm in position]
        turn.ImageOrientationPatient = orientation
        content.DimensionIndexValues = [1, number]
        content.InStackPositionNumber = number
        content.StackID = "1"
        frame.PlanePositionSequence = Sequence([where])
        frame.PlaneOrientationSequence = Sequence([turn])
        frame.FrameContentSequence = Sequence([content])
        frames.append(frame)
    image.PerFrameFunctionalGroupsSequence = Sequence(frames)
    image.NumberOfFrames = len(frames)
    _add_pixels(image, np.stack([pixels for pixels, _, _ in planes]), protocol.colour)


def _save(image: Dataset, path: Path, preamble: bool) -> Path:
    if preamble:
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(path, enforce_file_format=True)
    else:
        image.save_as(path, implicit_vr=True, little_endian=True)
    return path


def renumber(path: Path) -> None:
    """Give the image in a file an identifier of its own, as a second echo has."""
    image = pydicom.dcmread(path)
    image.SOPInstanceUID = _uid(image.SOPInstanceUID, "again")
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.save_as(path)
