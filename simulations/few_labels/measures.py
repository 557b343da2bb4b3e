"""Balanced accuracy over several label draws, with intervals over the same test patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from shared_model.metrics.bootstrap import draw_counts, percentile_interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Estimate(BaseModel):
    """A figure with its 95 % percentile interval over test patients."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def mean_balanced(predicted: Sequence[Ints], label: Ints, counts: Floats) -> Floats:
    """``(D,)`` balanced accuracy of ``(D, N)`` counts, mean over the models' predictions ``(N,)``.

    Several models of one arm differ in which patients had labels; the test patients are the same.
    """
    correct = np.stack([rows == label for rows in predicted]).mean(0)
    recalls = [
        counts[:, label == c] @ correct[label == c] / counts[:, label == c].sum(1)
        for c in np.unique(label)
    ]
    return np.asarray(np.mean(recalls, axis=0), dtype=np.float64)


def balanced_estimate(predicted: Sequence[Ints], label: Ints, seed: int = 0) -> Estimate:
    """Balanced accuracy of an arm."""
    return _estimate(lambda counts: mean_balanced(predicted, label, counts), label, seed)


def difference(
    ours: Sequence[Ints], theirs: Sequence[Ints], label: Ints, seed: int = 0
) -> Estimate:
    """Balanced accuracy of one arm minus another's, on the same draws of patients."""
    return _estimate(
        lambda counts: mean_balanced(ours, label, counts) - mean_balanced(theirs, label, counts),
        label,
        seed,
    )


def _estimate(figure: Callable[[Floats], Floats], label: Ints, seed: int) -> Estimate:
    value = float(figure(np.ones((1, len(label))))[0])
    interval = percentile_interval(value, figure(draw_counts(label, seed=seed)))
    return Estimate(value=value, low=interval.low, high=interval.high)
