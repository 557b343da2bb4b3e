"""Augmentation in training: averaged before the one clip, nobody else moves, never in testing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_site import GRID, FixedRandom, small_model, small_plan
from torch import Tensor
from torch.nn.functional import cross_entropy

from client.agent.evaluation import probabilities
from client.archive.patients import Patient, Scan
from client.training.augmentation.patients import AugmentedPatients
from client.training.augmentation.views import PlannedViews
from client.training.examples import PatientExamples, patient_examples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import (
    LoopGradients,
    MappedGradients,
    OwnCopyGradients,
    PatientGradients,
    patient_gradients,
)
from client.training.patient_optimizer import CLIPPING_MARGIN
from client.training.patient_sgd import PatientSGD
from client.training.personalise import personalise
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from shared_model.augmentation import AugmentationSection
from shared_model.plan import FederationPlan
from shared_model.smrnet.tokens import Tokens

DRAWS = 3
SECTION = AugmentationSection(enabled=True, multiplicity=DRAWS, views=5, probability=1.0)


def augmented_plan(*args: str, section: AugmentationSection = SECTION, **kw: Any) -> FederationPlan:
    return small_plan(*args, **kw).model_copy(update={"augmentation": section})


class Volumes:
    """A smooth head of its own for every scan, with the greys of a prepared one."""

    def __init__(self) -> None:
        self.reads = 0

    def volume(self, scan: Scan) -> np.ndarray:
        self.reads += 1
        seed = int.from_bytes(str(scan.path).encode())
        blobs = torch.randn(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed % 2**63))
        smooth = torch.nn.functional.interpolate(blobs, GRID.shape, mode="trilinear")[0, 0].numpy()
        out = np.full(GRID.shape, -4.0, np.float32)
        inside = (slice(5, -5),) * 3
        out[inside] = np.clip(smooth[inside] + scan.label, -3.9, 4)
        return out


def archive(count: int) -> list[Patient]:
    return [
        Patient(
            f"p{number}",
            None,
            tuple(
                Scan(session, Path(f"{number}-{session}"), number % 3, None)
                for session in ("m00", "m12")[: 1 + number % 2]
            ),
        )
        for number in range(count)
    ]


def examples_of(
    site_model: SiteModel, patients: Sequence[Patient], folder: Path | None = None, **kw: Any
) -> list[PatientExamples]:
    return list(patient_examples(site_model, patients, Volumes(), folder, training=True, **kw))


def step_of(
    plan: FederationPlan, examples: Sequence[PatientExamples], number: int = 2, step: int = 1
) -> AugmentedPatients:
    views = PlannedViews.of(plan)
    assert views is not None
    return AugmentedPatients(examples, views, number, step)


def bits(patient: PatientExamples) -> bytes:
    parts = []
    for inputs, labels in patient.chunks():
        tensors = (inputs.regions, inputs.slices) if isinstance(inputs, Tokens) else (inputs,)
        parts += [t.numpy().tobytes() for t in (*tensors, labels)]
    return b"".join(parts)


def private(
    flat: FlatParameters, gradients: PatientGradients, clip: float, random: Any = None
) -> PatientSGD:
    return PatientSGD(
        flat,
        gradients,
        sampling_rate=1.0,
        declared_patients=4,
        noise_multiplier=1.0,
        clipping_norm=clip,
        learning_rate=1.0,
        weight_decay=0.0,
        random=random or FixedRandom(),
    )


def single_view_gradients(
    site_model: SiteModel, plan: FederationPlan, patient: PatientExamples, number: int, step: int
) -> list[Tensor]:
    """One backward of its own for every scan and draw, views made from their public keys."""
    views = PlannedViews.of(plan)
    assert views is not None
    parameters = site_model.parameters(site_model.groups["shared"])
    out = []
    store = Volumes()
    source = next(p for p in archive(9) if p.id == patient.id)
    for index, scan in enumerate(source.scans):
        volume = torch.from_numpy(store.volume(scan))[None, None]
        if site_model.uses_tokens:
            chosen = views.chosen(patient.id, index, plan.augmentation.views, number, step)
            inputs: list[Any] = [
                site_model.tokenise(views.kept(volume, patient.id, index, view)) for view in chosen
            ]
        else:
            inputs = [
                views.fresh(volume, patient.id, index, number, step, draw) for draw in range(DRAWS)
            ]
        for one in inputs:
            loss = cross_entropy(site_model.logits(one), torch.tensor([scan.label]))
            grads = torch.autograd.grad(loss, parameters)
            out.append(torch.cat([g.reshape(-1).double() for g in grads]))
    return out


@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_the_contribution_is_the_clip_of_the_mean_over_all_scans_and_draws(encoder: str) -> None:
    plan = augmented_plan(encoder=encoder)
    site_model = small_model(plan)
    examples = examples_of(site_model, archive(3 if encoder == "frozen" else 2))
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    ways: list[PatientGradients] = [LoopGradients(site_model.output, flat)]
    if encoder == "frozen":
        assert isinstance(patient_gradients(site_model, names, flat), OwnCopyGradients)
        ways.append(patient_gradients(site_model, names, flat))
        # So little memory that the views of one patient are mapped in parts.
        ways += [way(site_model.model, names, 2**20) for way in (OwnCopyGradients, MappedGradients)]
    clip = 0.05
    for patient in examples:
        singles = single_view_gradients(site_model, plan, patient, 2, 1)
        assert len(singles) == DRAWS * len(patient.labels)
        mean = torch.stack(singles).mean(0)
        assert mean.norm() > clip  # the clip is at work
        assert not torch.allclose(singles[0], singles[1], rtol=1e-3)
        expected = mean * clip * (1 - CLIPPING_MARGIN) / (mean.norm() + 1e-6)
        for way in ways:
            found = private(flat, way, clip).clipped_sum(step_of(plan, [patient]))
            assert (found - expected).norm() / expected.norm() < 1e-4
            assert found.norm() <= clip


@pytest.mark.parametrize("encoder", ["frozen", "shared"])
@pytest.mark.parametrize("clip", [1e-3, 10.0])
def test_removing_a_patient_moves_the_augmented_sum_by_at_most_c(encoder: str, clip: float) -> None:
    plan = augmented_plan(encoder=encoder)
    site_model = small_model(plan)
    examples = examples_of(site_model, archive(5 if encoder == "frozen" else 2))
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    engine = private(flat, patient_gradients(site_model, names, flat), clip)
    everybody = engine.clipped_sum(step_of(plan, examples))
    for i in range(len(examples)):
        without = engine.clipped_sum(step_of(plan, examples[:i] + examples[i + 1 :]))
        assert float((everybody - without).norm()) <= clip


@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_the_views_of_a_patient_do_not_depend_on_who_else_is_there(encoder: str) -> None:
    plan = augmented_plan(encoder=encoder)
    site_model = small_model(plan)
    people = archive(4)
    together = {p.id: bits(p) for p in step_of(plan, examples_of(site_model, people))}
    assert len(set(together.values())) == 4
    reordered = [people[2], people[0]]
    for patient in step_of(plan, examples_of(site_model, reordered)):
        assert bits(patient) == together[patient.id]


def test_steps_and_rounds_see_other_views_and_a_repeated_step_the_same() -> None:
    for encoder in ("frozen", "shared"):
        plan = augmented_plan(encoder=encoder)
        site_model = small_model(plan)
        examples = examples_of(site_model, archive(1))
        seen = [
            bits(step_of(plan, examples, number, step)[0])
            for number, step in ((1, 0), (1, 1), (2, 0), (1, 0))
        ]
        assert len(set(seen[:3])) == 3
        assert seen[0] == seen[3]


def test_a_scan_is_read_once_for_all_its_draws_of_a_step() -> None:
    plan = augmented_plan("none", encoder="shared")
    site_model = small_model(plan)
    store = Volumes()
    examples = list(patient_examples(site_model, archive(2), store, training=True))
    assert store.reads == 0
    train_round(site_model, examples, plan, "a", 1, "run")
    assert store.reads == 3  # three scans of two patients


@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_an_augmented_round_repeats_bit_for_bit_and_differs_from_a_plain_one(
    encoder: str,
) -> None:
    plan = augmented_plan("none", encoder=encoder, training={"local_steps": 2})
    off = plan.model_copy(update={"augmentation": AugmentationSection()})
    deltas = []
    for chosen in (plan, plan, off):
        site_model = small_model(chosen)
        examples = examples_of(site_model, archive(1 if encoder == "shared" else 2))
        deltas.append(train_round(site_model, examples, chosen, "a", 1, "run").delta)
    for name in deltas[0]:
        np.testing.assert_array_equal(deltas[0][name], deltas[1][name])
    assert any((deltas[0][name] != deltas[2][name]).any() for name in deltas[0])


def test_a_private_augmented_round_is_trained_and_sends_no_metrics() -> None:
    plan = augmented_plan("local")
    site_model = small_model(plan)
    trained = train_round(site_model, examples_of(site_model, archive(3)), plan, "a", 1, "run")
    assert trained.metrics == {}
    assert all(np.isfinite(value).all() for value in trained.delta.values())


def test_the_noise_is_drawn_once_however_many_views_there_are() -> None:
    plan = augmented_plan()
    site_model = small_model(plan)
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    random = FixedRandom(scale=1.0)
    engine = private(flat, patient_gradients(site_model, names, flat), 1.0, random)
    engine.step(step_of(plan, examples_of(site_model, archive(2))))
    assert random.normals_drawn == len(flat.gradient)


def test_evaluation_and_personalisation_never_see_a_view() -> None:
    plan = augmented_plan("none")
    site_model = small_model(plan)
    examples = examples_of(site_model, archive(3))
    assert all(e.views is not None and len(e.views) == 5 * len(e.labels) for e in examples)
    bare = [replace(example, views=None) for example in examples]
    np.testing.assert_array_equal(
        probabilities(site_model, examples)[1], probabilities(site_model, bare)[1]
    )
    fitted = personalise(site_model, examples, plan)
    for name, value in personalise(small_model(plan), bare, plan).items():
        np.testing.assert_array_equal(value, fitted[name])


def test_patients_who_are_only_tested_have_no_views() -> None:
    site_model = small_model(augmented_plan("none"))
    tested = list(patient_examples(site_model, archive(2), Volumes()))
    assert all(example.views is None for example in tested)
    # Examples made for testing do not silently train without the plan's augmentation.
    with pytest.raises(ValueError, match="training=True"):
        train_round(site_model, tested, site_model.plan, "a", 1, "run")


def test_a_plan_that_does_not_augment_makes_no_views() -> None:
    site_model = small_model(small_plan("none"))
    assert all(example.views is None for example in examples_of(site_model, archive(2)))


def test_views_are_tokenised_once_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = augmented_plan("none")
    site_model = small_model(plan)
    expected = examples_of(site_model, archive(2))
    calls = 0
    tokenise = SiteModel.tokenise

    def counted(self: SiteModel, volumes: Tensor) -> Tokens:
        nonlocal calls
        calls += 1
        return tokenise(self, volumes)

    monkeypatch.setattr(SiteModel, "tokenise", counted)
    for _ in range(2):
        found = examples_of(site_model, archive(2), tmp_path)
        assert calls == 3 * (1 + SECTION.views)
        for one, other in zip(found, expected, strict=True):
            assert one.views is not None
            assert other.views is not None
            assert torch.equal(one.views.regions, other.views.regions)
            assert torch.equal(one.views.slices, other.views.slices)
    # More views: only the new ones. Another range: all views, no scan.
    more = plan.model_copy(update={"augmentation": SECTION.model_copy(update={"views": 6})})
    examples_of(small_model(more), archive(2), tmp_path)
    assert calls == 3 * (1 + 6)
    other_range = SECTION.model_copy(update={"noise_sd": 0.1})
    examples_of(
        small_model(plan.model_copy(update={"augmentation": other_range})), archive(2), tmp_path
    )
    assert calls == 3 * (1 + 6) + 3 * 5
