"""Technical headers of series, as scanners of several vendors write them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

SPACING_MM = 2.0
#: Of MR, CT and other storage classes, without the last part.
SOP_CLASS = "1.2.840.10008.5.1.4.1.1."


@dataclass(frozen=True)
class Protocol:
    """A series' technical header; ``tags`` by keyword."""

    number: int
    tags: dict[str, Any]
    sop_class: str = SOP_CLASS + "4"
    modality: str = "MR"
    slices: int | None = None
    slice_mm: float = SPACING_MM
    planes: Literal["axial", "three"] = "axial"
    colour: bool = False

    def with_tags(self, number: int | None = None, **tags: Any) -> Protocol:
        return replace(self, number=number or self.number, tags={**self.tags, **tags})


def _mr(number: int, description: str, image_type: str, **tags: Any) -> Protocol:
    fields = {"SeriesDescription": description, "ImageType": image_type.split("\\"), **tags}
    return Protocol(number, fields)


SIEMENS_MPRAGE = _mr(
    3, "t1_mprage_sag_p2_iso", "ORIGINAL\\PRIMARY\\M\\ND\\NORM", Manufacturer="SIEMENS",
    ManufacturerModelName="Prisma", ProtocolName="t1_mprage_sag_p2_iso", MagneticFieldStrength=3,
    ScanningSequence=["GR", "IR"], SequenceVariant=["SK", "SP", "MP"], SequenceName="*tfl3d1_16ns",
    MRAcquisitionType="3D", EchoTime=2.98, RepetitionTime=2300, InversionTime=900, FlipAngle=9,
)  # fmt: skip
GE_BRAVO = _mr(
    4, "Sag 3D BRAVO", "ORIGINAL\\PRIMARY\\OTHER", Manufacturer="GE MEDICAL SYSTEMS",
    ManufacturerModelName="DISCOVERY MR750", ProtocolName="Brain with DTI and MRA",
    MagneticFieldStrength=3, ScanningSequence=["GR", "IR"], SequenceVariant=["SS", "SP"],
    MRAcquisitionType="3D", EchoTime=3.2, RepetitionTime=8.2, InversionTime=450, FlipAngle=12,
)  # fmt: skip
PHILIPS_TFE = _mr(
    301, "sT1W_3D_TFE", "ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE", Manufacturer="Philips Medical Systems",
    ManufacturerModelName="Achieva", ProtocolName="WIP sT1W_3D_TFE SENSE", MagneticFieldStrength=3,
    ScanningSequence=["GR"], SequenceVariant=["MP"], MRAcquisitionType="3D", EchoTime=3.7,
    RepetitionTime=8.1, FlipAngle=8,
)  # fmt: skip
UIH_GRE_FSP = _mr(
    5, "gre_fsp_3d_sag", "ORIGINAL\\PRIMARY\\M\\ND", Manufacturer="UIH", ProtocolName="gre_fsp_3d",
    ManufacturerModelName="uMR 790", MagneticFieldStrength=3, ScanningSequence=["GR", "IR"],
    MRAcquisitionType="3D", EchoTime=3.1, RepetitionTime=7.2, InversionTime=750, FlipAngle=10,
)  # fmt: skip
NAMELESS_MPRAGE = SIEMENS_MPRAGE.with_tags(
    6, SeriesDescription="head", ProtocolName="head", SequenceName=""
)
LOCALIZER = replace(
    _mr(1, "localizer", "ORIGINAL\\PRIMARY\\M\\ND", Manufacturer="SIEMENS", ScanningSequence="GR",
        MRAcquisitionType="2D", EchoTime=4, RepetitionTime=8.6, FlipAngle=20),
    planes="three", slices=5,
)  # fmt: skip
NAMELESS_LOCALIZER = LOCALIZER.with_tags(2, SeriesDescription="t1 head")
T2_FLAIR = _mr(
    7, "t2_space_dark-fluid_sag", "ORIGINAL\\PRIMARY\\M\\NORM", Manufacturer="SIEMENS",
    ScanningSequence=["SE", "IR"], MRAcquisitionType="3D", EchoTime=387, RepetitionTime=5000,
    InversionTime=1800, FlipAngle=120, SequenceName="*spcir_242ns",
)  # fmt: skip
T2_TSE = _mr(
    8, "eT2W_TSE", "ORIGINAL\\PRIMARY\\M_SE\\M\\SE", Manufacturer="Philips", EchoTime=90,
    ScanningSequence="SE", MRAcquisitionType="2D", RepetitionTime=4000, FlipAngle=90,
)  # fmt: skip
NAMELESS_T2 = T2_TSE.with_tags(9, SeriesDescription="T1 or so, says the operator", EchoTime=90)
PD = _mr(
    10, "Ax PD", "ORIGINAL\\PRIMARY\\OTHER", Manufacturer="GE MEDICAL SYSTEMS", EchoTime=12,
    ScanningSequence="SE", MRAcquisitionType="2D", RepetitionTime=3000, FlipAngle=90,
)  # fmt: skip
DWI = _mr(
    11, "ep2d_diff_b1000", "ORIGINAL\\PRIMARY\\DIFFUSION\\NONE", Manufacturer="SIEMENS",
    ScanningSequence="EP", MRAcquisitionType="2D", EchoTime=80, RepetitionTime=6000, FlipAngle=90,
)  # fmt: skip
ADC = _mr(12, "Apparent diffusion", "DERIVED\\PRIMARY\\ADC", Manufacturer="SIEMENS", EchoTime=80)
SWI = _mr(
    13, "SWI_Images", "DERIVED\\PRIMARY\\M\\SWI", Manufacturer="SIEMENS", EchoTime=20,
    ScanningSequence="GR", MRAcquisitionType="3D", RepetitionTime=28, FlipAngle=15,
)  # fmt: skip
TOF = _mr(
    14, "3D vessels", "ORIGINAL\\PRIMARY\\M", Manufacturer="SIEMENS", EchoTime=3.4, AngioFlag="Y",
    ScanningSequence="GR", MRAcquisitionType="3D", RepetitionTime=21, FlipAngle=18,
)  # fmt: skip
BOLD = _mr(
    15, "resting state", "ORIGINAL\\PRIMARY\\M\\MOSAIC", Manufacturer="SIEMENS", EchoTime=30,
    ScanningSequence="EP", MRAcquisitionType="2D", RepetitionTime=2000, FlipAngle=80,
)  # fmt: skip
SPINE = SIEMENS_MPRAGE.with_tags(16, BodyPartExamined="CSPINE")
PHASE = SIEMENS_MPRAGE.with_tags(17, ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
MPR_DERIVED = SIEMENS_MPRAGE.with_tags(
    18, SeriesDescription="t1_mprage MPR tra", ImageType=["DERIVED", "SECONDARY", "MPR"]
)
POST_CONTRAST = SIEMENS_MPRAGE.with_tags(
    19, SeriesDescription="t1_mprage_sag", ContrastBolusAgent="Gadobutrol"
)
POOR_IN_TAGS = replace(
    _mr(20, "anat-T1w", "DERIVED\\SECONDARY", Manufacturer="BIOLAB"), sop_class=SOP_CLASS + "4"
)
THICK_T1 = replace(
    _mr(21, "Ax T1 SE", "ORIGINAL\\PRIMARY\\OTHER", Manufacturer="GE MEDICAL SYSTEMS", EchoTime=10,
        ScanningSequence="SE", MRAcquisitionType="2D", RepetitionTime=550, FlipAngle=90),
    slice_mm=6.0,
)  # fmt: skip
SLAB = replace(SIEMENS_MPRAGE.with_tags(22), slices=45)
CT = replace(
    _mr(23, "Head 2 mm T1", "ORIGINAL\\PRIMARY\\AXIAL"), modality="CT", sop_class=SOP_CLASS + "2"
)
SCREEN = replace(
    _mr(24, "t1 saved", "DERIVED\\SECONDARY\\SCREEN SAVE"),
    sop_class=SOP_CLASS + "7", colour=True, slices=2,
)  # fmt: skip
SAYS_NOTHING = _mr(26, "head", "ORIGINAL\\PRIMARY", Manufacturer="SIEMENS", RepetitionTime=900)


def _few(protocol: Protocol) -> Protocol:
    """Three slices: enough for what is refused by its header."""
    return replace(protocol, slices=3)


#: Series that are never taken, and a word of the reason.
REFUSED = {
    "localizer": (LOCALIZER, "localizer"),
    "nameless localizer": (NAMELESS_LOCALIZER, "several directions"),
    "t2 flair": (_few(T2_FLAIR), "FLAIR"),
    "t2": (_few(T2_TSE), "T2"),
    "nameless t2": (_few(NAMELESS_T2), "echo time of 90 ms"),
    "pd": (_few(PD), "proton"),
    "dwi": (_few(DWI), "map or phase"),
    "adc": (_few(ADC), "map or phase"),
    "swi": (_few(SWI), "map or phase"),
    "tof": (_few(TOF), "angiography"),
    "bold": (_few(BOLD), "map or phase"),
    "nameless epi": (_few(BOLD.with_tags(25, ImageType=["ORIGINAL", "PRIMARY"])), "echo-planar"),
    "spine": (_few(SPINE), "another body part"),
    "phase": (_few(PHASE), "map or phase"),
    "ct": (_few(CT), "modality CT"),
    "screen shot": (SCREEN, "colour"),
    "says nothing": (_few(SAYS_NOTHING), "neither names nor timing"),
    "thick slices": (THICK_T1, "6.0 mm apart"),
    "slab": (SLAB, "field of view of only 90 mm"),
}
