"""``adaptation.json``: what belongs to a released model so that an unseen hospital can adapt it.

All of it is computed from one noised release of the training patients (kind ``calibrate``) and is
post-processing of it: it may go wherever the model may go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared_model.adaptation.scores import basis
from shared_model.adaptation.source import SourceMoments
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan, Sha256
from shared_model.releases.statistics import (
    PROBABILITIES,
    SCORE_PRODUCTS,
    SCORE_SUMS,
    classes,
    noise_multiplier,
    shapes,
    weight,
)

Floats = npt.NDArray[np.float64]
Row = tuple[float, ...]

#: A class with fewer patients than this many standard deviations of its count, or than the second
#: number, is not known well enough to adapt to.
_VISIBLE, _FEWEST = 4.0, 5.0


class ModelMoments(BaseModel):
    """The file, strict: one value too many, missing or not finite, and it is refused.

    Attributes:
        model_sha256: digest of the model's encoded parameters, as exported.
        plan_digest: of the plan that the model was trained under.
        labels: class names in the order of the rows.
        scores_radius: L2 bound of a patient's scores.
        means: ``(C, C)`` of the scores of each class.
        covariance: ``(C, C)`` of the scores within the classes.
        prevalence: ``(C,)`` shares of the classes in training.
        patients: about how many patients the moments are of; noised.
        sites: how many sites released them.
        noise_sd: standard deviation of the noise on the smallest class's mean, in scores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = Field(default=1, ge=1, le=1)
    model_sha256: Sha256
    plan_digest: Sha256
    labels: tuple[str, ...] = Field(min_length=2)
    scores_radius: float = Field(gt=0)
    means: tuple[Row, ...]
    covariance: tuple[Row, ...]
    prevalence: Row
    patients: float = Field(ge=0)
    sites: int = Field(ge=1)
    noise_sd: float = Field(ge=0)

    @property
    def source(self) -> SourceMoments:
        """As layer C takes them; raises SMR-E642."""
        c = len(self.labels)
        try:
            means, covariance = (
                np.array(part, np.float64).reshape(c, c) for part in (self.means, self.covariance)
            )
        except ValueError:
            raise _damaged(f"not {c} rows of {c} numbers") from None
        return SourceMoments(means, covariance, np.array(self.prevalence, np.float64))

    @classmethod
    def read(cls, content: bytes) -> ModelMoments:
        """Of bytes that may come from anybody; raises SMR-E642."""
        try:
            data = json.loads(content)
            found = cls.model_validate(data)
        except (ValueError, RecursionError, ValidationError) as error:
            raise _damaged(f"{type(error).__name__}: {error}"[:200]) from None
        _ = found.source
        return found

    @property
    def as_bytes(self) -> bytes:
        """The file."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False) + "\n").encode()


def model_moments(
    releases: Mapping[str, Mapping[str, npt.ArrayLike]],
    plan: FederationPlan,
    model_sha256: str,
    class_offsets: tuple[float, ...] | None = None,
) -> ModelMoments:
    """From the calibration arrays of every site that released any, flat or not.

    Args:
        releases: site -> arrays, as released.
        plan: with ``calibration.unseen_sites``.
        model_sha256: digest of the released model.
        class_offsets: what the decision rule added to the class biases after the release: it moves
            every score by the same known amount.

    Raises SMR-E643 where no site released moments, or noise hides a class.
    """
    c, radius = classes(plan), plan.calibration.scores_radius
    if not plan.calibration.unseen_sites or not releases:
        raise _nothing("calibration.unseen_sites = true, and a site that answered", len(releases))
    unit = {name: weight(name, c, unseen_sites=True) for name in shapes(plan, "calibrate")}
    total: dict[str, Floats] = {}
    for name, shape in shapes(plan, "calibrate").items():
        parts = [np.asarray(releases[site][name], np.float64) for site in sorted(releases)]
        total[name] = np.sum([part.reshape(shape) for part in parts], axis=0) / unit[name]
    noise = noise_multiplier(plan, "calibrate") * len(releases) ** 0.5
    counts = total[PROBABILITIES].sum(1)
    needed = max(_FEWEST, _VISIBLE * noise * c**0.5 / unit[PROBABILITIES])
    if not (counts + 1e-3 >= needed).all():  # sums of float32 parts
        raise _nothing(f"{needed:.0f} patients of each class", counts.round().tolist())
    means = radius * total[SCORE_SUMS] / counts[:, None]
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    means *= np.minimum(1.0, radius / np.maximum(norms, 1e-12))  # no mean is longer than its parts
    within = radius**2 * _square(total[SCORE_PRODUCTS], c) - (means.T * counts) @ means
    if class_offsets is not None:
        means[:, : c - 1] += np.asarray(class_offsets) @ basis(c)
    found = SourceMoments.floored(means, within / counts.sum(), counts / counts.sum())
    return ModelMoments(
        model_sha256=model_sha256,
        plan_digest=plan.digest,
        labels=plan.task.labels,
        scores_radius=radius,
        means=tuple(map(tuple, found.means.tolist())),
        covariance=tuple(map(tuple, found.covariance.tolist())),
        prevalence=tuple(found.prevalence.tolist()),
        patients=round(float(counts.sum()), 1),
        sites=len(releases),
        noise_sd=float(radius * noise / unit[SCORE_SUMS] / counts.min()),
    )


def _square(triangle: Floats, size: int) -> Floats:
    """``(D, D)`` symmetric, from what :func:`shared_model.releases.statistics.products` gives."""
    out = np.zeros((size, size))
    row, column = np.triu_indices(size)
    out[row, column] = triangle / np.where(row == column, 1.0, 2**0.5)
    return out + np.triu(out, 1).T


def _damaged(found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E642",
        "moments of the source sites cannot be used",
        expected="adaptation.json as smrfed-coordinator export wrote it",
        found=found,
        remedy="export the model again, and copy the file whole",
    )


def _nothing(expected: str, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E643",
        "the run released no moments with which an unseen hospital could adapt",
        expected=expected,
        found=found,
        remedy="more patients, or less noise in the calibration; the model can be used without",
    )
