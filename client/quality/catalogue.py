"""The measures as people see them: title, unit, what is bad, and how they are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from client.quality.scan_measures import ScanMeasures

Bad = Literal["low", "high", "both"]


@dataclass(frozen=True)
class Measured:
    """How one measure is shown and compared within a site.

    Attributes:
        name: attribute of :class:`ScanMeasures`.
        title: short, for a table's head and a plot.
        unit: empty for a ratio.
        digits: after the point.
        bad: which side is worse.
        hint: what a bad value usually is.
        least_spread: smallest standard deviation, in parts of the site's median, that outliers are
            judged by, so that a very even site does not call harmless differences outliers; None
            where a scan is not compared with others.
    """

    name: str
    title: str
    unit: str
    digits: int
    bad: Bad
    hint: str
    least_spread: float | None = None

    def value(self, measures: ScanMeasures) -> float | None:
        """The measure's value, None where it could not be taken."""
        found = getattr(measures, self.name)
        return None if found is None else float(found)

    def shown(self, value: float | None) -> str:
        """A value with its unit."""
        if value is None:
            return "n/a"
        return f"{value:.{self.digits}f} {self.unit}".strip()


_HEADER = tuple(
    Measured(*row)
    for row in (
        ("thickest_mm", "thickest voxel side", "mm", 2, "high", "a 2-D series with thick slices"),
        ("finest_mm", "finest voxel side", "mm", 2, "low", "interpolated by the scanner"),
        ("shortest_field_mm", "shortest field of view", "mm", 0, "low", "a slab, or a localizer"),
        ("grey_levels", "grey levels", "", 0, "low", "a label map, or greys lost in conversion"),
    )
)
_GREYS = (
    Measured("snr_white", "SNR white", "", 1, "low", "noise, motion or bias field", 0.08),
    Measured("snr_grey", "SNR grey", "", 1, "low", "noise, motion or bias field", 0.08),
    Measured("cnr", "CNR", "", 2, "low", "little contrast between white and grey matter", 0.06),
    Measured("cjv", "CJV", "", 2, "high", "motion or bias field", 0.06),
    Measured("white_over_grey", "white / grey", "", 2, "low", "not a T1w image", 0.04),
    Measured("efc", "EFC", "", 2, "high", "ghosts or blur from motion", 0.08),
    Measured("noise_percent", "noise", "%", 2, "high", "noise or ghosts in the air", 0.2),
    Measured("fber", "FBER", "", 0, "low", "noise or ghosts in the air"),
    Measured("smoothness_mm", "smoothness", "mm", 2, "both", "blur, or noise when low", 0.08),
)
_BRAIN = (
    Measured("brain_ml", "brain", "ml", 0, "both", "wrong mask, or an unusual head", 0.08),
    Measured("edge_cm2", "brain at edge", "cm²", 1, "high", "the brain is cut off"),
    Measured("dice", "Dice", "", 3, "low", "wrong mask or registration", 0.008),
    Measured("correlation", "NCC", "", 3, "low", "wrong registration, or no T1w brain", 0.03),
    Measured("centre_shift_mm", "centre shift", "mm", 1, "high", "wrong registration"),
    Measured("determinant", "scale", "", 2, "both", "wrong mask or registration", 0.08),
    Measured("stretch", "stretch", "", 2, "high", "wrong registration, or voxel size"),
    Measured("rotation_degrees", "rotation", "°", 0, "high", "axes of the header are suspect"),
    Measured("lost_share", "outside grid", "", 3, "high", "the model would not see all of it"),
)

#: Every measure, in the order of the page's table.
CATALOGUE: tuple[Measured, ...] = _BRAIN + _GREYS + _HEADER
BY_NAME = {measured.name: measured for measured in CATALOGUE}
