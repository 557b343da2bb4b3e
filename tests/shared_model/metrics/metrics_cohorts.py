"""Small random cohorts for the tests of metrics."""

from __future__ import annotations

import numpy as np

from shared_model.metrics import Floats, Ints, checked


def cohort(
    seed: int, n: int = 60, classes: int = 3, *, ties: bool = False, signal: float = 1.2
) -> tuple[Ints, Floats]:
    """Labels that hold every class, and probabilities that know something about them."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    raw = rng.normal(size=(n, classes)) + signal * np.eye(classes)[y]
    if ties:
        raw = np.round(raw)
    p = np.exp(raw)
    return checked(y, p / p.sum(1, keepdims=True))
