"""What adapting leaves on the hospital's disk: predictions per patient, and what was estimated."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from client.adaptation.unlabelled import UnlabelledPatients
from client.agent.durable import write_durably
from shared_model.adaptation.adapt import Adaptation
from shared_model.adaptation.scores import Floats, basis
from shared_model.adaptation.source import SourceMoments
from shared_model.errors import SmrfedError
from shared_model.exported import ExportedModel

PREDICTIONS, STATE = "predictions.csv", "adapted.json"
_NOTICE = (
    "Computed from this hospital's patients without noise. It must not leave the hospital, and "
    "must not be used in the training of a federation."
)


def state_of(model: ExportedModel, found: Adaptation, source: SourceMoments) -> dict[str, Any]:
    """What was estimated, as JSON values; ``class_offsets`` is what the class biases would get."""
    estimate, c = found.estimate, len(model.plan.task.labels)
    offsets = -basis(c) @ estimate.offset[: c - 1]
    return {
        "format": 1,
        "notice": _NOTICE,
        "model_sha256": model.sha256,
        "plan_digest": model.plan.digest,
        "method": found.method,
        "patients": estimate.scans,
        "labels": list(model.plan.task.labels),
        "prevalence": estimate.prevalence.tolist(),
        "training_prevalence": source.prevalence.tolist(),
        "offset": estimate.offset.tolist(),
        "offset_sd": found.offset_sd,
        "offset_evidence": found.evidence,
        "offset_evidence_needed": found.needed,
        "class_offsets": offsets.tolist(),
        "median_distance": float(np.median(found.distances)),
        "beyond": int((found.distances > found.tau).sum()),
        "tau": found.tau,
    }


def write_results(
    folder: Path,
    model: ExportedModel,
    patients: UnlabelledPatients,
    found: Adaptation,
    source: SourceMoments,
) -> tuple[Path, Path]:
    """Write predictions and state (mode 0600) and return where; raises SMR-E391."""
    decisions = found.decisions(patients.probabilities)
    adapted = found.probabilities(patients.probabilities, source)
    table = _table(model.plan.task.labels, patients, found, decisions, adapted)
    state = json.dumps(state_of(model, found, source), indent=1, allow_nan=False) + "\n"
    try:
        write_durably(folder / PREDICTIONS, table.encode())
        write_durably(folder / STATE, state.encode())
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder / PREDICTIONS, folder / STATE


def unwritable(folder: Path, error: OSError) -> SmrfedError:
    """SMR-E391."""
    return SmrfedError(
        "SMR-E391",
        f"cannot write below {folder}",
        expected="a folder of this hospital that can be written",
        found=error.strerror or error,
        remedy="name another folder with --out, or correct its permissions",
    )


def _table(
    labels: tuple[str, ...],
    patients: UnlabelledPatients,
    found: Adaptation,
    decisions: Floats,
    adapted: Floats,
) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["participant_id", "scans", "decision"]
        + [f"p_{label}" for label in labels]
        + [f"released_p_{label}" for label in labels]
        + ["distance", "out_of_distribution"]
    )
    for i, name in enumerate(patients.ids):
        rows.writerow(
            [name, patients.scans[i], labels[int(decisions[i].argmax())]]
            + [f"{value:.6f}" for value in adapted[i]]
            + [f"{value:.6f}" for value in patients.probabilities[i]]
            + [f"{found.distances[i]:.3f}", int(found.distances[i] > found.tau)]
        )
    return text.getvalue()
