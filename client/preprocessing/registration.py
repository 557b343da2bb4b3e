"""Where the scan lies in MNI152 space, and whether that may be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from client.archive.problems import Defect, Problem
from client.preprocessing.image import Affine, Mask, Work
from client.preprocessing.template import mni_template, template_sha256
from shared_model.preparation import Preparation

# The engines are imported where they work: who only asks what this step is needs none of them.
if TYPE_CHECKING:
    from client.preprocessing.affine_search import AffineSearch
    from client.preprocessing.agreement import Agreement

# An adult or a child of three needs no more than this; a crushed or blown-up brain is a failure.
_SMALLEST_DETERMINANT, _LARGEST_DETERMINANT = 0.4, 3.0
# A head that lies further from its header's axes than this has a wrong header.
_LARGEST_TURN_DEGREES = 60.0
# By so much more correlation another orientation is the right one; of a right header, none is.
_TURNED_GAIN = 0.01


@dataclass(frozen=True)
class RegisterToMNI:
    """Affine registration of the brain to the MNI152 2009a symmetric brain, with a gate.

    Own search (correlation, LBFGS) first; where its result fails the gate, SimpleITK's mutual
    information is tried and the better of the two kept. What fails then is refused: a wrong
    alignment never goes on. Starts from the header's orientation and cannot mirror. A brain that
    fits better in another orientation than its header's is refused too: whoever confused front and
    back may have confused left and right.

    Args:
        degrees_of_freedom: 6, 9 or 12.
        levels_mm: resolutions, coarse to fine.
        minimum_dice, minimum_correlation: the gate.
    """

    degrees_of_freedom: Literal[6, 9, 12] = 12
    levels_mm: tuple[float, ...] = (8.0, 4.0, 2.0)
    minimum_dice: float = 0.90
    minimum_correlation: float = 0.40

    name: ClassVar[str] = "registration"
    version: ClassVar[int] = 1

    @classmethod
    def of(cls, preparation: Preparation) -> RegisterToMNI:
        """The step that a plan asks for."""
        wanted = preparation.registration
        return cls(
            wanted.degrees_of_freedom,
            wanted.levels_mm,
            wanted.minimum_dice,
            wanted.minimum_correlation,
        )

    def parameters(self) -> Mapping[str, Any]:
        """The plan's parameters, and the template's digest."""
        return {
            "degrees_of_freedom": self.degrees_of_freedom,
            "levels_mm": list(self.levels_mm),
            "minimum_dice": self.minimum_dice,
            "minimum_correlation": self.minimum_correlation,
            "template_sha256": template_sha256(),
        }

    def __call__(self, work: Work) -> Work:
        """Fill in ``to_mni``. Raises a Defect, SMR-E244, when no method passes the gate."""
        from client.preprocessing.affine_search import AffineSearch
        from client.preprocessing.agreement import agreement
        from client.preprocessing.mattes import search_mattes

        image, mask = work.image, work.brain
        if mask is None:
            raise ValueError("registration needs the brain mask")
        try:
            search = AffineSearch(image.voxels, mask, image.affine, self.degrees_of_freedom)
        except ValueError as error:
            raise Defect(Problem.NOT_REGISTERED, str(error)) from None
        found = search.best(self.levels_mm)
        met = agreement(image.voxels, mask, image.affine, found)
        self._refuse_turned(work, mask, search, found, met)
        method = "correlation"
        if not self._passes(met, found):
            other = search_mattes(image.voxels, mask, image.affine, mni_template())
            second = agreement(image.voxels, mask, image.affine, other)
            if self._rank(second, other) > self._rank(met, found):
                method, found, met = "mattes", other, second
        if not self._passes(met, found):
            raise Defect(
                Problem.NOT_REGISTERED,
                f"Dice {met.dice:.3f} (at least {self.minimum_dice:g}), correlation "
                f"{met.correlation:.3f} (at least {self.minimum_correlation:g}), volume scaled by "
                f"{np.linalg.det(found[:3, :3]):.2f}",
            )
        findings = {
            "registration_method": method,
            "registration_dice": round(met.dice, 4),
            "registration_correlation": round(met.correlation, 4),
            **decomposed(found),
        }
        return replace(work, to_mni=found, findings={**work.findings, **findings})

    def _refuse_turned(
        self, work: Work, mask: Mask, search: AffineSearch, found: Affine, met: Agreement
    ) -> None:
        """Refuse a brain that lies in another orientation than its header's."""
        from client.preprocessing.agreement import agreement

        turned = search.turned()
        if search.correlation(turned) > search.correlation(found) + _TURNED_GAIN:
            found, met = turned, agreement(work.image.voxels, mask, work.image.affine, turned)
        elif turn_degrees(found) <= _LARGEST_TURN_DEGREES:
            return
        if self._passes(met, found):
            raise Defect(
                Problem.NOT_REGISTERED,
                f"the brain fits the template (Dice {met.dice:.3f}, correlation "
                f"{met.correlation:.3f}) only when turned by {turn_degrees(found):.0f} degrees "
                "against its header: the header's orientation is wrong, and left may be right",
            )

    def _passes(self, met: Agreement, to_mni: Affine) -> bool:
        return self._rank(met, to_mni) >= 0

    def _rank(self, met: Agreement, to_mni: Affine) -> float:
        """Margin to the nearer of the two limits; -inf for an impossible size or a mirror image."""
        if not _SMALLEST_DETERMINANT <= np.linalg.det(to_mni[:3, :3]) <= _LARGEST_DETERMINANT:
            return float("-inf")
        return min(met.dice - self.minimum_dice, met.correlation - self.minimum_correlation)


def turn_degrees(to_mni: Affine) -> float:
    """Angle of the rotation in a map, 0 to 180: of the nearest rotation to its linear part."""
    left, _, right = np.linalg.svd(to_mni[:3, :3])
    cosine = (np.trace(left @ right) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def decomposed(to_mni: Affine) -> dict[str, Any]:
    """Rotation about x, y, z in degrees, scales and shears (R times upper triangle), determinant.

    ``to_mni = R(z) R(y) R(x) U`` in its linear part: scales on U's diagonal, shears above it in
    parts of the scale.
    """
    linear = to_mni[:3, :3]
    rotation, upper = np.linalg.qr(linear)
    signs = np.sign(np.diagonal(upper))
    rotation, upper = rotation * signs, upper * signs[:, None]
    scales = np.diagonal(upper)
    angles = (
        np.arctan2(rotation[2, 1], rotation[2, 2]),
        -np.arcsin(np.clip(rotation[2, 0], -1, 1)),
        np.arctan2(rotation[1, 0], rotation[0, 0]),
    )
    shears = (upper[0, 1] / scales[0], upper[0, 2] / scales[0], upper[1, 2] / scales[1])
    return {
        "rotation_degrees": [round(float(np.degrees(a)), 3) for a in angles],
        "scales": [round(float(s), 5) for s in scales],
        "shears": [round(float(s), 5) for s in shears],
        "determinant": round(float(np.linalg.det(linear)), 5),
    }
