"""ConneX under the privacy engine: per-patient truth, self-test, dropout, cached tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_site import small_atlas

from client.archive.patients import Patient, Scan
from client.training.examples import PatientExamples, patient_examples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import MappedGradients, patient_gradients
from client.training.rounds import train_round
from client.training.self_test import sensitivity_self_test, synthetic_inputs
from client.training.site_loss import site_loss
from client.training.site_model import SiteModel
from shared_model.batch import Batch
from shared_model.connex.graphs import Graphs
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups

R = 5


def plan_of(mode: str = "local", **options: Any) -> FederationPlan:
    private = {"mode": "local", "noise_multiplier": 2.0}
    config = {"regions": R, "parcellation_sha256": "0" * 64, "width": 4, "mixer_tokens": 3}
    return FederationPlan.parse(
        {
            "name": "small connectomes",
            "task": {"labels": ["control", "case"]},
            "input": {"grid": {"spacing_mm": 4.0}},
            "model": {"name": "connex", "config": {**config, **options}},
            "groups": default_groups("connex").model_dump(),
            "privacy": private if mode == "local" else {"mode": "none"},
            "training": {"rounds": 2, "learning_rate": 0.1},
            "federation": {"sites": [{"name": "a", "declared_patients": 6}]},
        }
    )


def model_of(plan: FederationPlan) -> SiteModel:
    model = SiteModel.build(plan, small_atlas())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters(model.groups["shared"]):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def patients_of(model: SiteModel, count: int = 4) -> list[PatientExamples]:
    """One or two visits each; the last patient lacks a modality."""
    graphs = synthetic_inputs(model, 2 * count)
    assert isinstance(graphs, Graphs)
    graphs.present[-1, 1] = 0
    out, first = [], 0
    for number in range(count):
        scans = 1 + number % 2
        label = torch.full((scans,), number % 2)
        out.append(PatientExamples(f"p{number}", graphs[first : first + scans], label))
        first += scans
    return out


def test_the_graphs_are_cached_tokens_and_sizes_are_the_model_s_own() -> None:
    model = model_of(plan_of())
    assert model.uses_tokens
    assert model.sizes.regions == R


def test_augmentation_is_refused_because_no_volume_is_read() -> None:
    data = plan_of().model_dump(mode="json")
    data["augmentation"]["enabled"] = True
    with pytest.raises(SmrfedError, match="SMR-E305"):
        SiteModel.build(FederationPlan.parse(data), small_atlas())


def test_gradients_of_patients_equal_single_passes() -> None:
    for options in ({}, {"fusion": "late"}, {"fusion": "unified", "mask_entropy": 0.1}):
        plan = plan_of(**options)
        model = model_of(plan)
        model.model.network.double()
        patients = [
            PatientExamples(p.id, p.inputs.to(torch.float64), p.labels)
            for p in patients_of(model)
            if isinstance(p.inputs, Batch)
        ]
        names = model.groups["shared"]
        parameters, loss = model.parameters(names), site_loss(plan, "a", None)
        rows = []
        for patient in patients:
            assert isinstance(patient.inputs, Batch)
            own = [
                loss(model.output(patient.inputs[i : i + 1]), patient.labels[i : i + 1])[0]
                for i in range(len(patient.labels))
            ]
            grads = torch.autograd.grad(torch.stack(own).mean(), parameters, allow_unused=True)
            rows.append(
                torch.cat(
                    [
                        (torch.zeros_like(p) if g is None else g).reshape(-1)
                        for g, p in zip(grads, parameters, strict=True)
                    ]
                )
            )
        flat = FlatParameters(parameters)
        way = patient_gradients(model, names, flat, loss)
        flat.close()
        assert isinstance(way, MappedGradients)
        found, expected = torch.cat(list(way(patients))), torch.stack(rows)
        assert (expected.norm(dim=0) > 0).all()
        assert (found - expected).norm() <= 1e-9 * expected.norm()


def test_the_self_test_passes_with_modality_dropout() -> None:
    model = model_of(plan_of(modality_dropout=0.5))
    assert sensitivity_self_test(model, synthetic_inputs(model)) <= 1 + 1e-5


def test_modality_dropout_differs_between_patients_and_repeats_without_privacy() -> None:
    updates = []
    for _ in range(2):
        plan = plan_of("none", modality_dropout=0.9)
        model = model_of(plan)
        trained = train_round(model, patients_of(model), plan, "a", 1, "run")
        updates.append(trained.delta)
    for name, value in updates[0].items():
        np.testing.assert_array_equal(value, updates[1][name])
    still = plan_of("none")
    model = model_of(still)
    other = train_round(model, patients_of(model), still, "a", 1, "run").delta
    assert any((other[name] != value).any() for name, value in updates[0].items())


def test_under_privacy_every_patient_has_a_draw_of_their_own() -> None:
    plan = plan_of(modality_dropout=0.9)
    model = model_of(plan)
    model.model.train()
    graphs = synthetic_inputs(model, 1)
    assert isinstance(graphs, Graphs)
    patients = [PatientExamples(str(i), graphs, torch.tensor([0])) for i in range(12)]
    names = model.groups["shared"]
    flat = FlatParameters(model.parameters(names))
    rows = torch.cat(
        list(patient_gradients(model, names, flat, site_loss(plan, "a", None))(patients))
    )
    flat.close()
    assert len({round(float(row.norm()), 6) for row in rows}) > 1


class _Fields:
    def field(self, name: str, patient: Patient, scan: Scan) -> np.ndarray:
        if name.startswith("has_"):
            return np.array(1, np.float32)
        upper = np.triu(np.linspace(0.1, 0.9, R * R).reshape(R, R), 1)
        return (upper + upper.T).astype(np.float32)

    def lesions(self, patient: Patient, scan: Scan) -> np.ndarray:
        raise KeyError("lesions")


class _NoVolumes:
    def volume(self, scan: Scan) -> np.ndarray:
        raise AssertionError("a model of connectomes reads no volume")


def test_no_volume_is_read_and_another_transform_does_not_find_the_same_tokens(
    tmp_path: Path,
) -> None:
    patient = Patient("sub-01", None, (Scan("", Path("x"), 1, None),))
    found = {}
    for transform in ("log1p", "as_is"):
        model = model_of(plan_of(structural=transform))
        (example,) = patient_examples(model, [patient], _NoVolumes(), tmp_path, fields=_Fields())
        assert isinstance(example.inputs, Graphs)
        found[transform] = example.inputs.profiles
    assert example.inputs.present.shape == (1, 2)
    assert not torch.equal(found["log1p"], found["as_is"])
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
