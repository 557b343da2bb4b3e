"""What one run predicted, and its utility; kept on disk so that a stopped study goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared_model.metrics import Floats, Ints, balanced_accuracy, macro_auc
from simulations.evaluation.predictions import Predictions

# First: the seen hospitals that are in every federation, however small.
Where = Literal["seen", "unseen", "first"]
Metric = Literal["balanced_accuracy", "macro_auc"]
WHERE: tuple[Where, ...] = ("seen", "unseen")
_METRICS = {"balanced_accuracy": balanced_accuracy, "macro_auc": macro_auc}


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions for N test patients by M models: one federation, or every hospital's own.

    Attributes:
        label: ``(N,)`` true class.
        probability: ``(M, N, C)``; utility is the mean over the M models.
    """

    label: Ints
    probability: Floats

    @classmethod
    def of(cls, models: list[Predictions]) -> Predicted:
        """The predictions of several models for the same patients."""
        return cls(models[0].label, np.stack([model.probability for model in models]))

    def utility(self, metric: Metric, rows: npt.NDArray[np.int64] | None = None) -> float:
        """The metric over all patients, or over resampled ``rows``; chance is 1/C or 0.5."""
        measure = _METRICS[metric]
        label = self.label if rows is None else self.label[rows]
        probability = self.probability if rows is None else self.probability[:, rows]
        return float(np.mean([measure(label, p) for p in probability]))


Run = dict[Where, Predicted]


def keep(path: Path, run: Run) -> None:
    """Write a run's predictions, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.npz")
    arrays = {f"{w}-{part}": getattr(p, part) for w, p in run.items() for part in _PARTS}
    np.savez(temporary, **arrays)
    temporary.replace(path)


def kept(path: Path) -> Run | None:
    """A run that was kept, if there is one."""
    if not path.exists():
        return None
    with np.load(path) as file:
        return {w: Predicted(file[f"{w}-label"], file[f"{w}-probability"]) for w in WHERE}


_PARTS = ("label", "probability")
