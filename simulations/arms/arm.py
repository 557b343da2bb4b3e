"""One arm of a comparison: predictions on the same test patients as every other arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from client.agent.evaluation import probabilities
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.atlas.cache import write_atomically
from shared_model.metrics import balanced_accuracy
from simulations.arms.hospital import Hospital
from simulations.evaluation.predictions import Predictions
from simulations.report.results import Arm, ArmRole, CurvePoint, Score

Arrays = Mapping[str, npt.NDArray[np.float32]]
Curves = dict[Literal["seen", "unseen"], list[CurvePoint]]


@dataclass(frozen=True, eq=False)
class ArmResult:
    """What an arm predicted, by site, and the shared parameters of its model, if it has one."""

    key: str
    title: str
    what: str
    role: ArmRole
    predictions: dict[str, Predictions]
    shared: Arrays | None = None
    epsilon: float | None = None
    curves: Curves = field(default_factory=dict)

    def record(self, scores: dict[str, Score]) -> Arm:
        """The arm as the report holds it."""
        return Arm(
            key=self.key,
            title=self.title,
            what=self.what,
            role=self.role,
            privacy="none" if self.epsilon is None else "patient-level DP",
            epsilon=self.epsilon,
            scores=scores,
            curves={where: tuple(points) for where, points in self.curves.items()},
        )


def predict(model: SiteModel, examples: Sequence[PatientExamples], hospital: str) -> Predictions:
    """Predictions of the model as it stands for some patients of one hospital."""
    label, probability = probabilities(model, examples)
    return Predictions(
        tuple(f"{hospital}/{patient.id}" for patient in examples), label, probability
    )


def predict_everywhere(
    model: SiteModel,
    shared: Arrays,
    hospitals: Sequence[Hospital],
    site_arrays: Mapping[str, Arrays] | None = None,
) -> dict[str, Predictions]:
    """Predictions for the test patients of all hospitals.

    A hospital without own site parameters, as an unseen one, runs at the public ones (residual
    zero).
    """
    out = {}
    for hospital in hospitals:
        model.load_shared(dict(shared))
        model.reset_site()
        if site_arrays is not None and hospital.name in site_arrays:
            model.load_own(dict(site_arrays[hospital.name]))
        out[hospital.name] = predict(model, hospital.test, hospital.name)
    model.reset_site()
    return out


_CURVES = TypeAdapter(Curves)


class LearningCurve:
    """Balanced accuracy of the global model after every round, at seen and unseen sites.

    With ``file`` the points are kept, so that a resumed run has those of its first part.
    """

    def __init__(
        self, model: SiteModel, hospitals: Sequence[Hospital], file: Path | None = None
    ) -> None:
        self._model = model
        self._hospitals = hospitals
        self._file = file
        self.curves: Curves = {"seen": [], "unseen": []}
        if file is not None and file.exists():
            self.curves = _CURVES.validate_json(file.read_bytes())

    def add(self, round_number: int, shared: Arrays) -> None:
        """Evaluate the parameters of a round."""
        predictions = predict_everywhere(self._model, shared, self._hospitals)
        for where, held_out in (("seen", False), ("unseen", True)):
            parts = [predictions[h.name] for h in self._hospitals if h.held_out == held_out]
            if not parts:
                continue
            joined = Predictions.join(parts)
            value = balanced_accuracy(joined.label, joined.probability)
            if np.isfinite(value):
                point = CurvePoint(round=round_number, balanced_accuracy=value)
                self.curves["seen" if where == "seen" else "unseen"].append(point)
        if self._file is not None:
            write_atomically(self._file, _CURVES.dump_json(self.curves))


AfterRound = Callable[[int, Arrays], None]
