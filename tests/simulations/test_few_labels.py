"""Few labels: even draws, honest intervals, heads that stay, pseudo-labels of the sure alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from server.plan_drafting import initial as initial_module
from server.plan_drafting.initial import class_parameters, taken_over
from shared_model.atlas.atlas import Atlas
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.metrics import balanced_accuracy
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups
from shared_model.smrnet.tokens import Tokens
from simulations.few_labels.masked_tokens import MaskedOptions, joined, pretrain_reasoner
from simulations.few_labels.measures import (
    Estimate,
    balanced_estimate,
    difference,
    mean_balanced,
)
from simulations.few_labels.page import renew, verdict
from simulations.few_labels.people import labelled
from simulations.few_labels.self_training import pseudo_labels

GRID = ModelGrid(spacing_mm=4.0)
HEAD = {
    "reasoner.head.bias",
    "reasoner.head.weight",
    "reasoner.readout.common",
    "reasoner.readout.own",
}


def atlas() -> Atlas:
    labels = np.zeros(GRID.shape, np.int16)
    for part in range(4):
        labels[4 + 9 * part : 12 + 9 * part, 6:46, 6:38] = part + 1
    chain = np.diag(np.ones(3, np.float32), 1)
    names = tuple(f"part {i}" for i in range(4))
    return Atlas("chain", labels, GRID.affine, names, (-1,) * 4, chain + chain.T)


def plan(labels: tuple[str, ...]) -> FederationPlan:
    return FederationPlan.parse(
        {
            "name": "few",
            "task": {"labels": labels},
            "input": {"grid": {"spacing_mm": 4.0}},
            "model": {"config": {"width": 4}},
            "groups": default_groups("smrnet").model_dump(),
            "privacy": {"mode": "none"},
            "federation": {"sites": [{"name": "a", "declared_patients": 9}]},
        }
    )


def patients(model: SiteModel, count: int, seed: int = 0) -> list[PatientExamples]:
    """Tokens of correlated regions: what one part shows, its neighbours show as well."""
    generator = torch.Generator().manual_seed(seed)
    shape = model.tokenise(torch.zeros(1, 1, *GRID.shape))
    assert isinstance(shape, Tokens)
    out = []
    for number in range(count):
        common = torch.randn(1, 1, 1, shape.regions.shape[3], generator=generator)
        noise = 0.2 * torch.randn(shape.regions.shape, generator=generator)
        slices = torch.zeros_like(shape.slices)
        tokens = Tokens(common + noise, slices)
        out.append(PatientExamples(f"p{number}", tokens, torch.tensor([number % 2])))
    return out


@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_labels_are_drawn_evenly(classes: int, count: int, seed: int) -> None:
    label = np.random.default_rng(seed).integers(0, classes, 60)
    rows = labelled(label, count, np.random.default_rng(seed))
    assert len(set(rows.tolist())) == len(rows) == count
    drawn = np.bincount(label[rows], minlength=classes)
    there = np.bincount(label, minlength=classes)
    short = drawn[drawn < there]  # classes that are not used up
    assert short.size == 0 or drawn.max() - short.min() <= 1


def test_one_model_has_its_balanced_accuracy_and_no_difference_from_itself() -> None:
    rng = np.random.default_rng(1)
    label, guess = rng.integers(0, 3, 80), rng.integers(0, 3, 80)
    everybody = np.ones((1, 80))
    expected = balanced_accuracy(label, np.eye(3)[guess])
    assert mean_balanced([guess], label, everybody)[0] == pytest.approx(expected)
    found = balanced_estimate([guess], label)
    assert found.low < found.value == pytest.approx(expected)
    assert found.value < found.high
    same = difference([guess, label], [guess, label], label)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert difference([label], [guess], label).low > 0


def test_the_head_is_what_follows_the_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared_model.atlas.select.load_atlas", lambda *_: atlas())
    assert class_parameters(plan(("CN", "PD"))) == HEAD


def test_all_but_the_head_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial_module, "class_parameters", lambda _: frozenset(HEAD))
    source = SiteModel.build(plan(("CN", "MCI", "AD")), atlas()).shared_arrays()
    earlier = {name: value + 1 for name, value in source.items()}
    target = SiteModel.build(plan(("CN", "PD")), atlas())
    begun = taken_over(target.plan, target.shared_arrays(), earlier)
    target.load_shared(begun)
    for name, value in target.shared_arrays().items():
        if name in HEAD:
            assert value.shape[-1] == 2 or 2 in value.shape
        else:
            assert np.array_equal(value, earlier[name])
    del earlier["reasoner.graph.embed.weight"]
    with pytest.raises(SmrfedError, match="SMR-E751"):
        taken_over(target.plan, target.shared_arrays(), earlier)


def test_masked_tokens_are_learnt_and_the_head_is_left_alone() -> None:
    model = SiteModel.build(plan(("CN", "PD")), atlas())
    before = model.shared_arrays()
    own = model.site_arrays()
    tokens = joined([patient.inputs for patient in patients(model, 24)])
    person = torch.zeros(24, 2)
    options = MaskedOptions(steps=60, batch_size=12)
    losses = pretrain_reasoner(model, frozenset(HEAD), tokens, person, options)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    after = model.shared_arrays()
    assert all(np.array_equal(before[name], after[name]) for name in HEAD)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    assert all(np.array_equal(own[name], value) for name, value in model.site_arrays().items())
    again = SiteModel.build(plan(("CN", "PD")), atlas())
    assert pretrain_reasoner(again, frozenset(HEAD), tokens, person, options) == losses


def test_only_the_sure_get_a_pseudo_label() -> None:
    model = SiteModel.build(plan(("CN", "PD")), atlas())
    people = patients(model, 12)
    assert not pseudo_labels(model, people, 0.9).examples  # an untrained model is sure of nobody
    with torch.no_grad():
        model.parameters(["reasoner.head.bias"])[0].copy_(torch.tensor([0.0, 4.0]))
    found = pseudo_labels(model, people, 0.9)
    assert len(found.examples) == 12
    assert all(example.labels.tolist() == [1] for example in found.examples)
    assert found.precision == 0.5
    # The true labels play no part in what is chosen.
    hidden = [replace(each, labels=torch.zeros(1, dtype=torch.int64)) for each in people]
    other = pseudo_labels(model, hidden, 0.9)
    assert [e.labels.tolist() for e in other.examples] == [
        e.labels.tolist() for e in found.examples
    ]


def test_a_page_is_renewed_between_its_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    renew(page, "figures", "new")  # no page, nothing happens
    assert not page.exists()
    page.write_text("before\n<!-- figures -->\nold\n<!-- end figures -->\nafter\n")
    renew(page, "figures", "new\n")
    renew(page, "others", "lost")
    assert page.read_text() == "before\n<!-- figures -->\nnew\n<!-- end figures -->\nafter\n"


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.1, 0.3, "better"), (-0.3, -0.1, "worse"), (-0.1, 0.1, "not shown")]
)
def test_a_verdict_says_no_more_than_the_interval(low: float, high: float, said: str) -> None:
    gain = Estimate(value=(low + high) / 2, low=low, high=high)
    assert said in verdict(gain, "One", "another")
