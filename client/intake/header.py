"""What one DICOM file says about itself: its header, never its pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from client.intake.dicom_values import (
    Vector,
    first_number,
    first_text,
    number_of,
    parse_age,
    parse_date,
    quiet,
    text_of,
    vector_of,
    words_of,
)

#: Of one file; anything else in a header is never looked at.
_KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID",
    "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyDate", "SeriesDate",
    "AcquisitionDate", "ContentDate", "StudyTime", "SeriesNumber", "AcquisitionNumber", "Modality",
    "Manufacturer", "ImageType", "SeriesDescription", "ProtocolName", "SequenceName",
    "PulseSequenceName", "ScanningSequence", "EchoPulseSequence",
    "EchoPlanarPulseSequence", "SequenceVariant", "ScanOptions", "EchoTime",
    "RepetitionTime", "InversionTime", "FlipAngle", "EchoTrainLength", "MRAcquisitionType",
    "AngioFlag", "DiffusionBValue", "ContrastBolusAgent", "BodyPartExamined", "DeviceSerialNumber",
    "MagneticFieldStrength", "ComplexImageComponent", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
    "PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_TAGS = [Tag(keyword) for keyword in _KEYWORDS]
_PREAMBLE = 128
_MOST_FRAMES = 100_000
_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class Tags:
    """Technical values of a series' header; None or empty where the header lacks them.

    Times are in ms, angles in degrees, field strength in tesla.
    """

    modality: str
    sop_class: str
    manufacturer: str
    description: str
    protocol: str
    sequence_name: str
    scanning_sequence: tuple[str, ...]
    sequence_variant: tuple[str, ...]
    scan_options: tuple[str, ...]
    image_type: tuple[str, ...]
    echo_time: float | None
    repetition_time: float | None
    inversion_time: float | None
    flip_angle: float | None
    echo_train: float | None
    acquisition_type: str
    angio: bool
    b_value: float | None
    contrast_agent: str
    body_part: str
    complex_component: str
    field_strength: float | None
    samples_per_pixel: int
    photometric: str


@dataclass(frozen=True)
class Slice:
    """One image plane: of a file of its own, or a frame of an enhanced one.

    ``position`` and ``orientation`` are in patient mm; empty where the header has none.
    """

    position: Vector
    orientation: Vector
    spacing: Vector
    thickness: float | None
    rows: int
    columns: int
    echo_time: float | None
    acquisition: int
    image_type: tuple[str, ...]


@dataclass(frozen=True)
class DicomFile:
    """What the header of one file says; holds identities, and never leaves memory."""

    path: Path
    size: int
    sop_uid: str
    study: str
    series: str
    series_number: int
    patient_id: str
    issuer: str
    birth_date: date | None
    sex: str
    age_years: int | None
    study_date: date | None
    study_time: str
    device_serial: str
    tags: Tags
    slices: tuple[Slice, ...]
    cut_short: bool


def read_header(path: Path, size: int) -> DicomFile | None:
    """The header of one file; None when it is no DICOM image or object.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is DICOM, but its header is damaged.
    """
    with path.open("rb") as file:
        start = file.read(_PREAMBLE + 4)
    has_preamble = start[_PREAMBLE:] == b"DICM"
    if not has_preamble and not _looks_like_a_data_set(start):
        return None
    try:
        with quiet():
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            if "SOPClassUID" not in header and "Rows" not in header:
                # Without a preamble it may have been something else altogether.
                if has_preamble and not _is_directory(header):
                    raise ValueError("neither a class nor an image")
                return None
            return _dicom_file(path, size, header)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        # pydicom raises nearly everything on damaged files; its words may quote the header.
        raise ValueError(type(error).__name__) from None


def _is_directory(header: Dataset) -> bool:
    """Whether a file is a DICOMDIR under another name."""
    meta = getattr(header, "file_meta", None)
    return meta is not None and text_of(meta, "MediaStorageSOPClassUID") == _DIRECTORY


def _looks_like_a_data_set(start: bytes) -> bool:
    """Whether bytes begin with an element of group 2 or 8, as files without a preamble do."""
    if len(start) < 8 or start[:2] not in (b"\x02\x00", b"\x08\x00") or start[3] != 0:
        return False
    explicit = bool(re.fullmatch(rb"[A-Z]{2}", start[4:6]))
    return explicit or int.from_bytes(start[4:8], "little") < 256


def _dicom_file(path: Path, size: int, header: Dataset) -> DicomFile:
    slices = _slices(header)
    shared = _groups(header)
    study_date = next(
        (
            found
            for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
            if (found := parse_date(text_of(header, keyword))) is not None
        ),
        None,
    )
    return DicomFile(
        path=path,
        size=size,
        sop_uid=text_of(header, "SOPInstanceUID"),
        study=text_of(header, "StudyInstanceUID"),
        series=text_of(header, "SeriesInstanceUID"),
        series_number=int(number_of(header, "SeriesNumber") or 0),
        patient_id=text_of(header, "PatientID"),
        issuer=text_of(header, "IssuerOfPatientID"),
        birth_date=parse_date(text_of(header, "PatientBirthDate"), oldest=1880),
        sex={"M": "M", "F": "F", "O": "O"}.get(text_of(header, "PatientSex").upper(), ""),
        age_years=parse_age(text_of(header, "PatientAge")),
        study_date=study_date,
        study_time=re.sub(r"\D.*", "", text_of(header, "StudyTime")),
        device_serial=text_of(header, "DeviceSerialNumber"),
        tags=_tags(header, shared),
        slices=slices,
        cut_short=size < _pixel_bytes(header, max(len(slices), 1)),
    )


def _pixel_bytes(header: Dataset, frames: int) -> int:
    """How large the pixels are at least; 0 for compressed ones."""
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is not None and syntax.is_compressed:
        return 0
    shape = [number_of(header, name) or 0 for name in ("Rows", "Columns", "BitsAllocated")]
    samples = number_of(header, "SamplesPerPixel") or 1
    return int(shape[0] * shape[1] * shape[2] / 8 * samples * frames)


def _groups(header: Dataset) -> tuple[Dataset, ...]:
    """Where values may stand: the header, an enhanced one's shared groups, and its first frame."""
    found = [header]
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        sequence = header.get(keyword)
        if sequence:
            found += _nested(sequence[0])
    return tuple(found)


def _nested(group: Dataset) -> list[Dataset]:
    return [group] + [item for element in group if element.VR == "SQ" for item in element.value[:1]]


def _tags(header: Dataset, groups: tuple[Dataset, ...]) -> Tags:
    return Tags(
        modality=text_of(header, "Modality").upper(),
        sop_class=text_of(header, "SOPClassUID"),
        manufacturer=text_of(header, "Manufacturer"),
        description=text_of(header, "SeriesDescription"),
        protocol=text_of(header, "ProtocolName"),
        sequence_name=first_text(groups, "SequenceName", "PulseSequenceName"),
        scanning_sequence=words_of(header, "ScanningSequence") or _enhanced_sequence(groups),
        sequence_variant=words_of(header, "SequenceVariant"),
        scan_options=words_of(header, "ScanOptions"),
        image_type=words_of(header, "ImageType"),
        echo_time=first_number(groups, "EchoTime", "EffectiveEchoTime"),
        repetition_time=first_number(groups, "RepetitionTime"),
        inversion_time=first_number(groups, "InversionTime", "InversionTimes"),
        flip_angle=first_number(groups, "FlipAngle"),
        echo_train=first_number(groups, "EchoTrainLength", "RFEchoTrainLength"),
        acquisition_type=first_text(groups, "MRAcquisitionType").upper(),
        angio=first_text(groups, "AngioFlag").upper() == "Y",
        b_value=first_number(groups, "DiffusionBValue"),
        contrast_agent=first_text(groups, "ContrastBolusAgent"),
        body_part=first_text(groups, "BodyPartExamined").upper(),
        complex_component=first_text(groups, "ComplexImageComponent").upper(),
        field_strength=first_number(groups, "MagneticFieldStrength"),
        samples_per_pixel=int(number_of(header, "SamplesPerPixel") or 1),
        photometric=text_of(header, "PhotometricInterpretation").upper(),
    )


def _enhanced_sequence(groups: tuple[Dataset, ...]) -> tuple[str, ...]:
    """An enhanced header's words for the sequence, as a classic one has them."""
    echo = first_text(groups, "EchoPulseSequence").upper()
    words = {"GRADIENT": ("GR",), "SPIN": ("SE",), "BOTH": ("SE", "GR")}.get(echo, ())
    planar = first_text(groups, "EchoPlanarPulseSequence").upper() == "YES"
    return (*words, "EP") if planar else words


def _slices(header: Dataset) -> tuple[Slice, ...]:
    """The planes of a file: one, or the frames of an enhanced image."""
    if "Rows" not in header:
        return ()
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        count = int(number_of(header, "NumberOfFrames") or 1)
        if not 0 < count <= _MOST_FRAMES:
            raise ValueError("an impossible number of frames")
        return (_slice(header, (header,)),) * count
    shared = header.get("SharedFunctionalGroupsSequence")
    common = _nested(shared[0]) if shared else []
    return tuple(_slice(header, (*_nested(frame), *common, header)) for frame in frames)


def _slice(header: Dataset, groups: tuple[Dataset, ...]) -> Slice:
    def vector(keyword: str, length: int) -> Vector:
        return next((v for g in groups if len(v := vector_of(g, keyword)) == length), ())

    return Slice(
        position=vector("ImagePositionPatient", 3),
        orientation=vector("ImageOrientationPatient", 6),
        spacing=vector("PixelSpacing", 2),
        thickness=first_number(groups, "SliceThickness"),
        rows=int(number_of(header, "Rows") or 0),
        columns=int(number_of(header, "Columns") or 0),
        echo_time=first_number(groups, "EchoTime", "EffectiveEchoTime"),
        acquisition=int(first_number(groups, "AcquisitionNumber", "TemporalPositionIndex") or 0),
        image_type=words_of(header, "ImageType"),
    )
