"""Which series of a study is the T1w image of the head, and why.

A series is refused, or gets a rank (native; derived or poor in tags; after a contrast agent) and a
score within it. Reasons are made of our own words and of numbers: no text of a header is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from client.archive.sequence_names import (
    other_contrast,
    says_contrast_agent,
    says_t1,
    says_volumetric_t1,
)
from client.archive.sidecar import LONGEST_T1_ECHO_S
from client.intake.geometry import Stack, stack
from client.intake.header import Tags
from client.intake.options import IntakeOptions
from client.intake.series import Series

_LONGEST_T1_ECHO_MS = 1000 * LONGEST_T1_ECHO_S
_CLASS = "1.2.840.10008.5.1.4.1.1."
#: Storage classes of MR images, enhanced and legacy-converted ones too.
_MR_CLASSES = {_CLASS + end for end in ("4", "4.1", "4.4")}
#: Secondary capture, single-frame and of grey levels: some converters write MR volumes so.
_CAPTURES = {_CLASS + end for end in ("7", "7.2", "7.3")}
#: A child's head is 130 mm wide; a slab for the hippocampus or a vessel is far thinner.
_SMALLEST_HEAD_MM = 110.0
_FEWEST_SLICES = 40
_PROJECTIONS = {"PROJECTION IMAGE", "MIP", "MNIP", "MINIP", "MAX_IP", "MIN_IP", "SUBTRACT", "SUB"}
_MAPS = {"ADC", "FA", "TRACEW", "TRACE", "T2 MAP", "T1 MAP", "T2MAP", "T1MAP", "PERFUSION", "CBF"}
_MAPS |= {"SWI", "FIELD_MAP", "B0", "B1", "PHASE MAP", "PHASE", "P", "FMRI", "DIFFUSION", "MOSAIC"}
_HEAD = ("", "HEAD", "BRAIN", "SKULL", "NEURO", "CRAN", "PHANTOM", "WHOLEBODY")


class Rank(IntEnum):
    """How good a series is in kind; a lower one is only taken where no higher one exists."""

    NATIVE = 0
    DERIVED = 1
    AFTER_CONTRAST = 2
    REFUSED = 3


@dataclass(frozen=True)
class Judgement:
    """What was found about one series.

    Attributes:
        series: the series.
        stack: its volume; None where it has none.
        rank: its kind.
        score: within its kind, higher is better; 0 for a refused one.
        reasons: why, without any text of the header.
        warnings: what a person should know if it is taken.
        incomplete: refused only because slices are missing or files are cut short.
    """

    series: Series
    stack: Stack | None
    rank: Rank
    score: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    incomplete: bool = False


def rank_series(series: Sequence[Series], options: IntakeOptions) -> tuple[Judgement, ...]:
    """All series of a study, best first.

    Of equal ones the later comes first: a scan is repeated because the first one was bad.
    """
    judged = [judge(one, options) for one in series]
    return tuple(sorted(judged, key=lambda j: (j.rank, -j.score, -j.series.number, j.series.uid)))


def judge(series: Series, options: IntakeOptions) -> Judgement:
    """One series by itself."""
    volume = stack(series.files)

    def refused(reason: str, incomplete: bool = False) -> Judgement:
        return Judgement(series, volume, Rank.REFUSED, 0.0, (reason,), (), incomplete)

    tags = series.tags
    if volume is not None:
        # A series may hold phase images too, and its first file be one of them.
        tags = replace(tags, image_type=volume.image_type)
    reason = _no_image(tags) or _other_sequence(tags)
    if reason is not None:
        return refused(reason)
    evidence = _evidence(tags)
    if not evidence:
        return refused("neither names nor timing say that it is T1-weighted")
    if volume is None:
        cut = sum(file.cut_short for file in series.files)
        if cut:
            return refused(f"all of its {cut} files are cut short", incomplete=True)
        return refused("its images do not say where they lie in space")
    reason = _no_head(volume, options)
    if reason is not None:
        return refused(reason)
    broken = _broken(volume)
    if broken is not None:
        return refused(broken, incomplete=True)
    rank, warnings = _rank(tags)
    if rank is Rank.DERIVED and options.derived == "never":
        return refused(f"{warnings[0]}, and [dicom] takes none of these")
    if rank is Rank.AFTER_CONTRAST and options.contrast_agent == "never":
        return refused("after a contrast agent, and [dicom] takes none of these")
    points = [*evidence, *_quality(tags, volume)]
    score = round(sum(point for point, _ in points), 2)
    warnings += tuple(f"{choice} was taken" for choice in volume.chosen)
    if volume.directions > 1:
        warnings += (f"the largest of {volume.directions} sets of parallel planes was taken",)
    cut = sum(file.cut_short for file in series.files)
    if cut:
        warnings += (f"{cut} files that are cut short were left out at the edge",)
    return Judgement(series, volume, rank, score, tuple(why for _, why in points), warnings)


def _no_image(tags: Tags) -> str | None:
    if tags.modality != "MR":
        known = {
            "CT",
            "PT",
            "NM",
            "SEG",
            "SR",
            "PR",
            "OT",
            "US",
            "CR",
            "DX",
            "KO",
            "RTSTRUCT",
            "SC",
        }
        return f"modality {tags.modality}" if tags.modality in known else "not of modality MR"
    if tags.samples_per_pixel != 1 or tags.photometric not in ("", "MONOCHROME1", "MONOCHROME2"):
        return "colour images"
    if tags.sop_class and tags.sop_class not in _MR_CLASSES | _CAPTURES:
        return "no MR images but another kind of object"
    return None


def _other_sequence(tags: Tags) -> str | None:
    """What says that it is something else than a T1w image of the head."""
    if not any(tags.body_part.startswith(part) for part in _HEAD[1:]) and tags.body_part:
        return "of another body part"
    for words, kind in ((_PROJECTIONS, "a projection or subtraction"), (_MAPS, "a map or phase")):
        if words & set(tags.image_type):
            return f"{kind}, by its image type"
    if tags.complex_component in ("PHASE", "REAL", "IMAGINARY"):
        return "not a magnitude image"
    if tags.angio:
        return "angiography, by its header"
    if tags.b_value:
        return "diffusion, by its header"
    if "EP" in tags.scanning_sequence:
        return "an echo-planar sequence"
    named = other_contrast(tags.description) or other_contrast(tags.sequence_name)
    if named is None and not says_t1(tags.description):
        # GE's ProtocolName is that of the whole examination.
        named = None if _is_ge(tags) else other_contrast(tags.protocol)
    if named is not None:
        return f"{named}, by its name"
    if tags.echo_time is not None and tags.echo_time > _LONGEST_T1_ECHO_MS:
        return f"an echo time of {tags.echo_time:g} ms, too long for T1"
    return None


def _is_ge(tags: Tags) -> bool:
    return tags.manufacturer.upper().startswith("GE")


def _evidence(tags: Tags) -> list[tuple[float, str]]:
    """What speaks for T1 weighting, with points."""
    found = []
    names = f"{tags.description} {tags.sequence_name}"
    if not _is_ge(tags):
        names += f" {tags.protocol}"
    if says_volumetric_t1(names):
        found.append((3.0, "named as a volumetric T1w sequence"))
    elif says_t1(names):
        found.append((2.0, "named T1"))
    if (timing := _timing(tags)) is not None:
        found.append(timing)
    return found


def _timing(tags: Tags) -> tuple[float, str] | None:
    """Timing that only T1w sequences have; times in ms."""
    echo, repetition, inversion = tags.echo_time, tags.repetition_time, tags.inversion_time
    flip = tags.flip_angle
    gradient = bool({"GR", "RM"} & set(tags.scanning_sequence))
    if echo is None:
        return None
    if echo <= 8 and inversion is not None and 250 <= inversion <= 1400 and (gradient or echo <= 6):
        return 3.0, "inversion-prepared gradient echo"
    short = repetition is not None and repetition <= 50
    if gradient and echo <= 8 and short and flip is not None and flip >= 7:
        return 2.0, "spoiled gradient echo with short times"
    spin = "SE" in tags.scanning_sequence and "GR" not in tags.scanning_sequence
    if spin and echo <= 25 and repetition is not None and 300 <= repetition <= 1000:
        return 1.0, "spin echo with short times"
    return None


def _no_head(volume: Stack, options: IntakeOptions) -> str | None:
    """Why a volume cannot be a whole head at a useful resolution."""
    if volume.slices < 2:
        return "a single slice"
    if volume.directions >= 3 and volume.slices < _FEWEST_SLICES:
        return "a localizer: planes of several directions"
    if volume.volumes > 1:
        return f"{volume.volumes} volumes of the same place"
    if volume.spacing_mm[0] > options.thickest_slice_mm:
        return f"slices {volume.spacing_mm[0]:.1f} mm apart"
    if volume.slices < _FEWEST_SLICES:
        return f"only {volume.slices} slices"
    if min(volume.extent_mm) < _SMALLEST_HEAD_MM:
        return f"a field of view of only {min(volume.extent_mm):.0f} mm"
    return None


def _broken(volume: Stack) -> str | None:
    if volume.missing:
        return f"missing in between: {volume.missing} of its slices"
    if volume.uneven:
        return "the distances between its slices differ"
    return None


def _rank(tags: Tags) -> tuple[Rank, tuple[str, ...]]:
    agent = tags.contrast_agent.casefold().strip()
    named = says_contrast_agent(f"{tags.description} {'' if _is_ge(tags) else tags.protocol}")
    if named or agent not in ("", "no", "none", "n", "n/a", "na", "ohne", "0", "without"):
        return Rank.AFTER_CONTRAST, ("after a contrast agent: brighter vessels and membranes",)
    warnings = []
    derived = {"DERIVED", "SECONDARY", "MPR", "REFORMATTED", "RESAMPLED", "CSA MPR"}
    if derived & set(tags.image_type) or tags.sop_class in _CAPTURES:
        warnings.append("derived from other images, not as the scanner acquired it")
    if tags.echo_time is None and tags.repetition_time is None:
        warnings.append("its header has neither echo nor repetition time")
    if warnings:
        return Rank.DERIVED, tuple(warnings)
    return Rank.NATIVE, ()


def _quality(tags: Tags, volume: Stack) -> list[tuple[float, str]]:
    """Points for the volume itself."""
    points = []
    if tags.acquisition_type == "3D":
        points.append((2.0, "acquired in three dimensions"))
    elif tags.acquisition_type == "2D":
        points.append((-1.0, "acquired slice by slice"))
    coarse, fine = max(volume.spacing_mm), min(volume.spacing_mm)
    voxel = " x ".join(f"{size:.2f}" for size in volume.spacing_mm)
    points.append((-2.0 * max(0.0, math.log2(coarse)), f"voxels of {voxel} mm"))
    if coarse > 1.5 * fine:
        points.append((-0.5, "voxels that are far from cubes"))
    if volume.thickness_mm is not None and volume.thickness_mm < 0.8 * volume.spacing_mm[0]:
        points.append((-1.0, "gaps between its slices"))
    extent = " x ".join(f"{size:.0f}" for size in volume.extent_mm)
    whole = sorted(volume.extent_mm)[0] >= 150 and sorted(volume.extent_mm)[1] >= 200
    points.append((1.0 if whole else 0.0, f"{volume.slices} slices, field of view {extent} mm"))
    if "NORM" in tags.image_type:
        points.append((0.5, "normalised for the coil by the scanner"))
    if {"DIS2D", "DIS3D"} & set(tags.image_type):
        points.append((0.25, "corrected for distortion by the scanner"))
    return points
