"""Predictions of one model for one hospital's patients under every corruption and severity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from client.agent.evaluation import probabilities
from client.archive.patients import Patient
from client.training.examples import patient_examples
from client.training.scan_inputs import VolumeSource
from client.training.site_model import SiteModel
from shared_model.metrics import Floats, Ints
from simulations.evaluation.corruption import KINDS, SEVERITIES, CorruptedVolumes, Kind


@dataclass(frozen=True, eq=False)
class CorruptedPredictions:
    """Labels ``(N,)`` and probabilities ``(N, C)`` of the same patients in the same order.

    Severity 0 is the clean scan, given once for each kind.
    """

    kind: Kind
    severity: int
    label: Ints
    probability: Floats


def corrupted_predictions(
    model: SiteModel,
    patients: Sequence[Patient],
    source: VolumeSource,
    *,
    kinds: Sequence[Kind] = KINDS,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
) -> Iterator[CorruptedPredictions]:
    """Every kind from clean to worst; with K kinds and S severities ``1 + K S`` passes.

    Tokens are computed anew for each severity and kept nowhere. Raises SMR-E607 without patients or
    where the model's answer is no distribution.
    """
    keys = {s.path: (p.id, i) for p in patients for i, s in enumerate(p.scans)}
    clean = probabilities(model, list(patient_examples(model, patients, source)))
    for kind in kinds:
        yield CorruptedPredictions(kind, 0, *clean)
        for severity in severities:
            worse = CorruptedVolumes(
                source,
                keys,
                kind,
                severity,
                seed,
                model.plan.input.grid.spacing_mm,
                model.plan.input.intensity,
            )
            found = probabilities(model, list(patient_examples(model, patients, worse)))
            yield CorruptedPredictions(kind, severity, *found)
