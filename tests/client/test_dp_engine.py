"""Patient-level DP-SGD: gradients and clipped sums against loops and against Opacus."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dp_engine_fixture import engine, site_engine
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from small_site import FixedRandom, small_model, small_plan, token_patients, volume_patients
from torch import nn
from torch.nn.functional import cross_entropy

from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import (
    LoopGradients,
    MappedGradients,
    OwnCopyGradients,
    PatientGradients,
    patient_gradients,
)
from client.training.patient_optimizer import CLIPPING_MARGIN
from client.training.rounds import train_round


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_the_clipped_sum_is_the_loop_over_single_backwards(
    dtype: torch.dtype, tolerance: float, encoder: str
) -> None:
    plan = small_plan(encoder=encoder)
    site_model = small_model(plan)
    patients = token_patients(site_model, 4) if encoder == "frozen" else volume_patients(2)
    site_model.model.to(dtype)
    patients = [PatientExamples(p.id, p.inputs.to(dtype), p.labels) for p in patients]  # type: ignore[union-attr]
    parameters = site_model.parameters(site_model.groups["shared"])
    expected = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    clip = 0.5
    for patient in patients:
        mean = torch.zeros_like(expected)
        for row in range(len(patient.labels)):  # one scan at a time, averaged over the scans
            loss = cross_entropy(
                site_model.logits(patient.inputs[row : row + 1]),  # type: ignore[index]
                patient.labels[row : row + 1],
            )
            grads = torch.autograd.grad(loss, parameters)
            mean += torch.cat([g.reshape(-1).double() for g in grads]) / len(patient.labels)
        assert mean.norm() > clip  # the clip is at work
        # Opacus adds 1e-6 to the norm before it divides.
        expected += mean * clip * (1 - CLIPPING_MARGIN) / (mean.norm() + 1e-6)
    names = site_model.groups["shared"]
    flat = FlatParameters(parameters)
    ways: list[PatientGradients] = [LoopGradients(site_model.output, flat)]
    if encoder == "frozen":
        assert isinstance(patient_gradients(site_model, names, flat), OwnCopyGradients)
        ways += [way(site_model.model, names, 2**20) for way in (OwnCopyGradients, MappedGradients)]
        ways.append(OwnCopyGradients(site_model.model, names, len(expected)))
    for way in ways:
        found = engine(flat, way, FixedRandom(), clip=clip).clipped_sum(patients)
        assert (found - expected).norm() / expected.norm() < tolerance


def conv_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(64, 3)
    ).double()


def test_steps_equal_those_of_opacus_hooks_with_the_noise_off() -> None:
    mine, theirs = conv_model(), conv_model()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(10, 1, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.arange(10) % 3
    patients = [PatientExamples(str(i), x[i : i + 1], y[i : i + 1]) for i in range(10)]
    random = FixedRandom()
    clip = 0.7
    flat = FlatParameters(tuple(mine.parameters()))
    private = engine(
        flat,
        LoopGradients(lambda x: SimpleNamespace(logits=mine(x)), flat),
        random,
        noise=1e-13,
        clip=clip,
        declared=5,
        lr=0.3,
    )
    hooked = GradSampleModule(theirs, loss_reduction="sum")
    opacus = DPOptimizer(
        torch.optim.SGD(hooked.parameters(), lr=0.3),
        noise_multiplier=0.0,
        max_grad_norm=clip * (1 - CLIPPING_MARGIN),
        expected_batch_size=5,
    )
    for chosen in ([0, 3, 7, 8], [], [1, 2], [9]):
        random.chosen = chosen
        private.step(patients)
        opacus.zero_grad()
        if chosen:
            cross_entropy(hooked(x[chosen]), y[chosen], reduction="sum").backward()
        else:
            for p in hooked.parameters():
                p.grad_sample = p.new_zeros(0, *p.shape)
        opacus.step()
    difference = max(
        float((a - b).detach().abs().max())
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True)
    )
    assert difference < 1e-12


def test_the_denominator_is_public_whoever_joins() -> None:
    site_model = small_model(small_plan())
    patients = token_patients(site_model, 6)
    start = site_model.shared_arrays()
    for chosen in ([0], [0, 1, 2, 3, 4, 5]):
        site_model.load_shared(start)
        random = FixedRandom(chosen)
        private = site_engine(site_model, random, noise=1e-9, rate=0.25, declared=40, lr=2.0)
        total = private.clipped_sum([patients[i] for i in chosen])
        private.step(patients)
        after = site_model.shared_arrays()
        move = np.concatenate([(after[n] - start[n]).ravel() for n in start])
        np.testing.assert_allclose(move, -2.0 * total.numpy() / (0.25 * 40), atol=1e-6)


def test_a_patient_with_a_gradient_that_is_not_finite_counts_as_zero_and_the_noise_stays() -> None:
    site_model = small_model(small_plan())
    good = token_patients(site_model, 2)
    bad = token_patients(site_model, 2, seed=5)[1]
    bad.inputs.regions[0, 0, 0, 0] = math.nan  # type: ignore[union-attr]
    random = FixedRandom(scale=1.0)
    private = site_engine(site_model, random)
    with_bad, without = private.clipped_sum([*good, bad]), private.clipped_sum(good)
    # Products of another size may be added in another order, to the last bits of float32.
    torch.testing.assert_close(with_bad, without, rtol=0, atol=1e-7)
    assert private.zeroed_patients == 1
    private.step([bad])
    assert random.normals_drawn > 0
    assert all(np.isfinite(v).all() for v in site_model.shared_arrays().values())


def test_all_scans_of_a_patient_are_clipped_once() -> None:
    site_model = small_model(small_plan())
    one = token_patients(site_model, 1, scans=1)[0]
    many = PatientExamples(
        "many",
        type(one.inputs).cat([one.inputs] * 5),  # type: ignore[union-attr,arg-type]
        one.labels.repeat(5),
    )
    private = site_engine(site_model, FixedRandom(), clip=1e-3)
    assert float(private.clipped_sum([many]).norm()) <= 1e-3
    separately = private.clipped_sum([one] * 5)
    assert float(separately.norm()) > 4.9e-3  # five patients would count five times


def test_frozen_and_site_parameters_do_not_move_in_a_round() -> None:
    plan = small_plan(training={"local_steps": 2})
    site_model = small_model(plan)
    before = copy.deepcopy(site_model.model.state_dict())
    train_round(site_model, token_patients(site_model, 3), plan, "a", 1, "run")
    shared = set(site_model.groups["shared"])
    for name, value in site_model.model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in shared), name
