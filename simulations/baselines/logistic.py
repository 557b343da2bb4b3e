"""Multinomial logistic regression on standardised features, shared by two baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from shared_model.errors import SmrfedError
from simulations.baselines.subject_table import Floats, SubjectTable

Features = Callable[[SubjectTable], Floats]


@dataclass(frozen=True, eq=False)
class FittedLogistic:
    """Standardisation of the training set and the fitted regression; F features."""

    features: Features
    mean: Floats
    scale: Floats
    model: LogisticRegression
    classes: int

    def predict_proba(self, test: SubjectTable) -> Floats:
        """``(N, C)``; a class that the training set lacks gets probability zero."""
        out = np.zeros((len(test), self.classes))
        if len(test):
            x = (self.features(test) - self.mean) / self.scale
            out[:, self.model.classes_] = self.model.predict_proba(x)
        return out


def fit_logistic(train: SubjectTable, features: Features, c: float) -> FittedLogistic:
    """L2 logistic regression with inverse penalty ``c``, classes weighted to equal mass.

    The weighting makes the baseline as strong as it can be in balanced accuracy. A feature without
    spread in the training set is centred and not scaled.

    Raises:
        SmrfedError: SMR-E692 where the training set holds fewer than two classes.
    """
    present = sorted({train.classes[label] for label in train.label})
    if len(present) < 2:
        raise SmrfedError(
            "SMR-E692",
            "a logistic regression needs at least two classes in its training set",
            found=f"{len(train)} patients, classes {present}",
            expected="at least 2 classes",
            remedy="give the site more patients, or lower the test fraction",
        )
    x = features(train)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=5000, tol=1e-6)
    model.fit((x - mean) / scale, train.label)
    return FittedLogistic(features, mean, scale, model, len(train.classes))


def demographic_features(table: SubjectTable) -> Floats:
    """Age in years and female sex as 0/1: ``(N, 2)``."""
    female = np.asarray([sex == "F" for sex in table.sex], dtype=np.float64)
    return np.column_stack([table.age, female])
