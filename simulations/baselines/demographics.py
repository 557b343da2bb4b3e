"""Age and sex alone: what can be said about a patient without an image."""

from __future__ import annotations

from dataclasses import dataclass

from simulations.baselines.logistic import FittedLogistic, demographic_features, fit_logistic
from simulations.baselines.subject_table import SubjectTable


@dataclass(frozen=True)
class Demographics:
    """Multinomial logistic regression on age and sex; ``c`` was fixed before any data was seen."""

    c: float = 1.0

    def fit(self, train: SubjectTable) -> FittedLogistic:
        """Fit on these patients; raises SMR-E692 with fewer than two classes."""
        return fit_logistic(train, demographic_features, self.c)
