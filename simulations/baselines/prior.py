"""The prior: every patient gets the class shares of the training set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_model.errors import SmrfedError
from simulations.baselines.subject_table import Floats, SubjectTable


@dataclass(frozen=True)
class Prior:
    """Ignores the patient; its balanced accuracy is 1/C by construction."""

    def fit(self, train: SubjectTable) -> FittedPrior:
        """Count the classes; raises SMR-E692 without any patient."""
        if not len(train):
            raise SmrfedError(
                "SMR-E692",
                "a baseline cannot be fitted without patients",
                found="0 patients",
                expected="at least 1 patient",
                remedy="give the site more patients, or lower the test fraction",
            )
        counts = np.bincount(train.label, minlength=len(train.classes))
        return FittedPrior(shares=counts / counts.sum())


@dataclass(frozen=True, eq=False)
class FittedPrior:
    """Class shares ``(C,)`` of the training set."""

    shares: Floats

    def predict_proba(self, test: SubjectTable) -> Floats:
        """The same row for everybody: ``(N, C)``."""
        return np.tile(self.shares, (len(test), 1))
