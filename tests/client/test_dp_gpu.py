"""The private engine on a GPU: the same gradients, clipped sums and noise as on a CPU."""

from __future__ import annotations

import pytest
import torch
from dp_engine_fixture import engine, site_engine
from small_site import FixedRandom, small_model, small_plan, token_patients, volume_patients

from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import LoopGradients, MappedGradients, PatientGradients
from client.training.rounds import train_round
from client.training.self_test import sensitivity_self_test, synthetic_inputs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
GPU = torch.device("cuda")


def on_gpu(patients: list[PatientExamples]) -> list[PatientExamples]:
    return [
        PatientExamples(p.id, p.inputs.to(GPU), p.labels.to(GPU))  # type: ignore[union-attr,arg-type]
        for p in patients
    ]


@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_clipped_sums_are_those_of_the_cpu(encoder: str) -> None:
    site_model = small_model(small_plan(encoder=encoder))
    patients = token_patients(site_model, 4) if encoder == "frozen" else volume_patients(3)
    here = site_engine(site_model, FixedRandom(), clip=0.1)
    expected = here.clipped_sum(patients)
    here.close()
    site_model.model.to(GPU)
    there = site_engine(site_model, FixedRandom(), clip=0.1)
    found = there.clipped_sum(on_gpu(patients)).cpu()
    there.close()
    assert (found - expected).norm() <= 1e-3 * expected.norm()


def test_volumes_may_be_mapped() -> None:
    """``vmap`` over volumes: for devices that a lone scan leaves idle. Not the default."""
    site_model = small_model(small_plan(encoder="shared"))
    site_model.model.to(GPU)
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    ways: list[PatientGradients] = [
        LoopGradients(site_model.output, flat),
        MappedGradients(site_model.model, names, len(flat.gradient), scans=4),
    ]
    patients = on_gpu(volume_patients(4))
    one, other = (engine(flat, way, FixedRandom(), clip=0.1).clipped_sum(patients) for way in ways)
    assert (one - other).norm() <= 1e-3 * one.norm()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_self_test_and_a_round_run(precision: str) -> None:
    plan = small_plan(encoder="shared", training={"precision": precision})
    site_model = small_model(plan)
    site_model.model.to(GPU)
    assert sensitivity_self_test(site_model, synthetic_inputs(site_model)) <= 1
    delta = train_round(site_model, on_gpu(volume_patients(2)), plan, "a", 1, "run").delta
    assert all((value == value).all() for value in delta.values())
