"""What every registered model has to keep, of this package and of others."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, is_dataclass
from typing import Any

import pytest
import torch
from registered_models import (
    modes_of,
    tensors_of,
    tiny_inputs,
    tiny_model,
    tiny_plan,
    tiny_targets,
    without_dropout,
)
from small_site import small_atlas
from torch import Tensor, nn

from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import patient_gradients
from client.training.self_test import sensitivity_self_test, synthetic_inputs
from client.training.site_loss import site_loss
from client.training.site_model import SiteModel
from shared_model.batch import Inputs
from shared_model.errors import SmrfedError
from shared_model.models.entry import EncoderUse
from shared_model.models.plan_sections import plan_sections
from shared_model.registry import default_groups, model_entry, model_names, refuse_tracked_state

EVERY = pytest.mark.parametrize("name", model_names())
#: Minutes in float64: 2D at the grid of the volume. tests/client/test_dp_layers.py has the
#: gradients of a few of its slices.
_LONG = {"smrnet-published"}
COSTLY = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in _LONG else []) for n in model_names()],
)
ENCODERS: tuple[EncoderUse, ...] = ("frozen", "shared")


@EVERY
def test_it_says_what_it_is(name: str) -> None:
    entry = model_entry(name)
    assert entry.about.endswith(".")
    assert entry.source
    said_by_the_plan = {"classes", "site_norm"}
    for option, field in entry.config.model_fields.items():
        assert field.description or option in said_by_the_plan, option
    plan = tiny_plan(name)
    assert plan.task.kind == entry.task
    assert entry.tiny, "without tiny options nobody can check the model in seconds"


@EVERY
def test_groups_hold_every_parameter_once(name: str) -> None:
    for mode in modes_of(name):
        model = SiteModel.build(tiny_plan(name, mode), small_atlas())
        names = [n for n, _ in model.model.named_parameters()]
        own = {n for n in names if n.endswith((".site_scale", ".site_shift"))}
        for encoder in ENCODERS:
            groups = default_groups(name, mode, encoder).split(names)  # raises where one has two
            assert sorted(n for members in groups.values() for n in members) == sorted(names)
            assert groups["shared"]
            assert not own & set(groups["shared"])
            if mode == "residual":
                assert set(groups["site"]) <= own
            if mode in ("off", "shared"):
                assert not groups["site"]


@EVERY
def test_it_keeps_no_statistics_of_patients(name: str) -> None:
    model = SiteModel.build(tiny_plan(name), small_atlas()).model
    refuse_tracked_state(name, model)
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)
                and m.track_running_stats]  # fmt: skip


@COSTLY
def test_a_scan_alone_is_the_scan_in_a_batch(name: str) -> None:
    model = tiny_model(tiny_plan(name), torch.float64)
    model.model.train()
    without_dropout(model.model)
    inputs = tiny_inputs(model, 3)
    with torch.no_grad():
        together = model.output(inputs)
        alone = [model.output(inputs[i : i + 1]) for i in range(3)]
    assert is_dataclass(together)
    with pytest.raises(FrozenInstanceError):
        together.logits = together.logits  # type: ignore[misc]
    classes = len(model.plan.task.labels)
    if model.entry.task == "classification":
        assert together.logits.shape == (3, classes)
    else:
        assert len(together.logits) == 3
    per_scan = [dict(tensors_of(one)) for one in alone]
    for path, value in tensors_of(together):
        of_all = value.shape == per_scan[0][path].shape  # of the model, such as a shared mask
        rows = per_scan[0][path] if of_all else torch.cat([one[path] for one in per_scan])
        torch.testing.assert_close(value, rows, rtol=1e-9, atol=1e-9, msg=path)


@COSTLY
@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradients_of_patients_are_the_micro_batch_truth(name: str, encoder: Any) -> None:
    """Patients of two, one and one scan, in float64, by the engine that training would take."""
    model = tiny_model(tiny_plan(name, encoder=encoder), torch.float64)
    model.model.train()
    without_dropout(model.model)
    inputs, targets = tiny_inputs(model, 4), tiny_targets(model, 4)
    held: Inputs = model.tokenise(inputs) if model.uses_tokens else inputs
    names = model.trained(model.plan)
    parameters = model.parameters(names)
    model.train_only(names)

    def scan(i: int) -> Tensor:
        # The whole model, not the tokens: what is cached must not change the gradient.
        loss = model.entry.losses(model.model(inputs[i : i + 1]), targets[i : i + 1])
        assert loss.shape == (1,)
        found = torch.autograd.grad(loss.sum(), parameters, allow_unused=True)
        return torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).reshape(-1)
                for g, p in zip(found, parameters, strict=True)
            ]
        )

    scans = torch.stack([scan(i) for i in range(4)])
    truth = torch.stack([scans[:2].mean(0), scans[2], scans[3]])
    rows = [slice(0, 2), slice(2, 3), slice(3, 4)]
    patients = [PatientExamples(str(i), held[r], targets[r]) for i, r in enumerate(rows)]
    flat = FlatParameters(parameters)
    try:
        engine = patient_gradients(model, names, flat, site_loss(model.plan, "", None))
        found = torch.cat([part.double().clone() for part in engine(patients)])
    finally:
        flat.close()
    assert (found - truth).norm() <= 1e-9 * truth.norm()


@COSTLY
@pytest.mark.parametrize(("encoder", "mode"), [("frozen", "residual"), ("shared", "local")])
def test_no_federated_parameter_is_without_a_gradient(name: str, encoder: Any, mode: Any) -> None:
    """A private update adds noise to every number: where no data speak it is nothing else.

    The other modes of layer A have no further parameters.
    """
    mode = mode if mode in modes_of(name) else "off"
    model = tiny_model(tiny_plan(name, mode, encoder), torch.float64)
    model.model.train()
    without_dropout(model.model)
    names = model.trained(model.plan)
    model.train_only(names)
    inputs, targets = tiny_inputs(model, 3), tiny_targets(model, 3)
    loss = model.entry.losses(model.output(inputs), targets).sum()
    found = torch.autograd.grad(loss, model.parameters(names), allow_unused=True)
    largest = {
        n: 0.0 if g is None else float(g.abs().max()) for n, g in zip(names, found, strict=True)
    }
    silent = [n for n, value in largest.items() if value <= 1e-12 * max(largest.values())]
    assert not silent


@COSTLY
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_self_test_lets_it_train(name: str, encoder: Any) -> None:
    model = SiteModel.build(tiny_plan(name, encoder=encoder), small_atlas())
    assert sensitivity_self_test(model, synthetic_inputs(model)) <= 1 + 1e-5


@COSTLY
def test_the_self_test_refuses_it_once_patients_meet(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: the loss of a scan also looks at the others of the batch."""
    entry = model_entry(name)

    def coupled(output: Any, targets: Tensor) -> Tensor:
        spread = output.logits.flatten(1)
        own: Tensor = entry.losses(output, targets)
        return own + (spread - spread.mean(0)).square().mean(1)

    model = SiteModel.build(tiny_plan(name), small_atlas())
    monkeypatch.setattr("client.training.site_loss.model_entry", lambda _: _Coupled(coupled))
    with pytest.raises(SmrfedError, match="SMR-E308"):
        sensitivity_self_test(model, synthetic_inputs(model, 4))


@EVERY
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    seed = 20261122
    torch.manual_seed(seed)
    before = torch.get_rng_state()
    first, again = (SiteModel.build(tiny_plan(name, seed=seed), small_atlas()) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


@EVERY
def test_what_is_shown_is_a_plan(name: str) -> None:
    for mode in modes_of(name):
        sections = plan_sections(name, site_norm=mode)
        assert sections["adaptation"]["site_norm"] == mode
        assert sections["task"]["kind"] == model_entry(name).task


class _Coupled:
    def __init__(self, losses: Any) -> None:
        self.losses = losses
