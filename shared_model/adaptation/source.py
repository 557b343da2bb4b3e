"""What the federation releases about the scores of its training patients, for sites to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError

Floats = npt.NDArray[np.float64]

#: Smallest variance along any direction, relative to the mean over all of them.
VARIANCE_FLOOR = 0.05


@dataclass(frozen=True)
class SourceMoments:
    """Class-conditional moments of scores, C classes and D scores.

    Attributes:
        means: ``(C, D)`` of each class.
        covariance: ``(D, D)`` within the classes, pooled; floored, so that noise cannot make it
            singular.
        prevalence: ``(C,)`` shares of the classes in training, positive, sum one.
    """

    means: Floats
    covariance: Floats
    prevalence: Floats

    def __post_init__(self) -> None:
        classes, dimensions = self.means.shape
        shapes = self.covariance.shape == (dimensions, dimensions)
        shapes = shapes and self.prevalence.shape == (classes,)
        parts = (self.means, self.covariance, self.prevalence)
        finite = shapes and all(np.isfinite(part).all() for part in parts)
        usable = finite and (self.prevalence > 0).all() and abs(self.prevalence.sum() - 1) < 1e-6
        if not usable or np.linalg.eigvalsh(self.covariance).min() <= 0:
            raise SmrfedError(
                "SMR-E642",
                "moments of the source sites cannot be used",
                expected="finite means, a positive definite covariance, shares above zero",
                found=f"means {self.means.shape}, covariance {self.covariance.shape}, "
                f"shares {self.prevalence.tolist()}",
                remedy="export the model again, from a run whose calibration released its moments",
            )

    @classmethod
    def floored(cls, means: Floats, covariance: Floats, prevalence: Floats) -> SourceMoments:
        """With the covariance made symmetric and positive, and no class without a share."""
        symmetric = 0.5 * (covariance + covariance.T)
        values, vectors = np.linalg.eigh(symmetric)
        floor = VARIANCE_FLOOR * max(float(np.mean(np.maximum(values, 0.0))), 1e-6)
        whole = (vectors * np.maximum(values, floor)) @ vectors.T
        shares = np.maximum(prevalence, 0.01 / len(prevalence))
        return cls(means, 0.5 * (whole + whole.T), shares / shares.sum())

    @classmethod
    def exact(cls, labels: npt.NDArray[np.int64], scores: Floats, classes: int) -> SourceMoments:
        """Of patients that may be looked at without noise: public or synthetic ones.

        Args:
            labels: ``(N,)``, every class among them.
            scores: ``(N, D)``.
            classes: C.
        """
        means = np.stack([scores[labels == c].mean(0) for c in range(classes)])
        apart = scores - means[labels]
        covariance = apart.T @ apart / max(len(scores) - classes, 1)
        return cls.floored(means, covariance, np.bincount(labels, minlength=classes) / len(labels))

    @property
    def whitening(self) -> Floats:
        """``(D, D)`` W with ``W' covariance W = 1``, symmetric."""
        values, vectors = np.linalg.eigh(self.covariance)
        root: Floats = (vectors / np.sqrt(values)) @ vectors.T
        return root
