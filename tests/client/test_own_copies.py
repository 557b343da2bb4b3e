"""Every scan with its own copy of the parameters: the truth, for every option of the reasoner."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_site import small_model, small_plan, token_patients
from torch.nn.functional import cross_entropy

from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import OwnCopyGradients, patient_gradients
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups
from shared_model.smrnet.tokens import Tokens


def model_with(**options: Any) -> SiteModel:
    """In float64, away from the start, where some gradients are zero."""
    data = small_plan().model_dump(mode="json")
    data["adaptation"]["site_norm"] = options.pop("site_norm", "residual")
    data["groups"] = default_groups("smrnet", data["adaptation"]["site_norm"]).model_dump()
    data["model"]["config"].update(options)
    site_model = small_model(FederationPlan.parse(data))
    site_model.model.reasoner.double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in site_model.parameters(site_model.groups["shared"]):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).double())
    return site_model


def hold_against_single_passes(site_model: SiteModel, patients: list[PatientExamples]) -> None:
    names = site_model.groups["shared"]
    parameters = site_model.parameters(names)
    rows = []
    for patient in patients:
        tokens = patient.inputs
        assert isinstance(tokens, Tokens)
        losses = [
            cross_entropy(site_model.logits(tokens[i : i + 1]), patient.labels[i : i + 1])
            for i in range(len(tokens))
        ]
        grads = torch.autograd.grad(torch.stack(losses).mean(), parameters)
        rows.append(torch.cat([grad.reshape(-1) for grad in grads]))
    flat = FlatParameters(parameters)
    way = patient_gradients(site_model, names, flat)
    flat.close()
    assert isinstance(way, OwnCopyGradients)
    found, expected = torch.cat(list(way(patients))), torch.stack(rows)
    assert (expected.norm(dim=0) > 0).all()  # no weight is left out of the comparison
    assert (found - expected).norm() <= 1e-9 * expected.norm()


def float64(patients: list[PatientExamples]) -> list[PatientExamples]:
    return [PatientExamples(p.id, p.inputs.to(torch.float64), p.labels) for p in patients]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learned_edge_rank": 2},
        {"graph_blocks": 3, "graph_features": 5},
        {"attention_features": 3},
        {"site_norm": "off"},
        {"site_norm": "shared"},
        {"site_norm": "local"},
    ],
    ids=str,
)
def test_every_option_of_the_reasoner(options: dict[str, Any]) -> None:
    site_model = model_with(**options)
    hold_against_single_passes(site_model, float64(token_patients(site_model, 3)))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 2**31))
def test_any_number_of_patients_and_scans(scans: list[int], seed: int) -> None:
    site_model = model_with()
    patients = [
        patient
        for count in scans
        for patient in float64(token_patients(site_model, 1, seed + count, count))
    ]
    hold_against_single_passes(site_model, patients)


@pytest.mark.parametrize("scans", [1, 2])
def test_a_scan_that_is_not_finite_does_not_reach_the_other_patients(scans: int) -> None:
    site_model = model_with()
    patients = float64(token_patients(site_model, 4, scans=scans))
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    way = patient_gradients(site_model, names, flat)
    honest = torch.cat(list(way(patients)))
    patients[1].inputs.regions[0, 0, 0, 0] = torch.nan  # type: ignore[union-attr]
    broken = torch.cat(list(way(patients)))
    flat.close()
    assert not torch.isfinite(broken[1]).all()
    assert torch.equal(broken[[0, 2, 3]], honest[[0, 2, 3]])
