"""Rounds without privacy, personalisation, and the site model: determinism and separation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_site import GRID, small_atlas, small_model, small_plan, token_patients, volume_patients
from torch.nn.functional import cross_entropy

from client.archive.patients import Patient, Scan
from client.training.examples import PatientExamples, patient_examples
from client.training.personalise import personalise
from client.training.rounds import TrainedRound, train_round
from client.training.self_test import sensitivity_self_test, synthetic_inputs
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.privacy.secure_random import SeededRandom
from shared_model.smrnet.tokens import Tokens


def one_round(
    seed: int, encoder: str = "frozen", dropout: float = 0.0, site: str = "a", number: int = 1
) -> TrainedRound:
    steps = {"local_steps": 2, "sampling_rate": 0.6}
    plan = small_plan("none", encoder=encoder, dropout=dropout, training=steps)
    site_model = small_model(plan)
    patients = token_patients(site_model, 9) if encoder == "frozen" else volume_patients(3)
    torch.manual_seed(seed)
    return train_round(site_model, patients, plan, site, number, "run")


@pytest.mark.parametrize(
    ("encoder", "dropout"), [("frozen", 0.0), ("shared", 0.0), ("frozen", 0.3)]
)
def test_a_round_without_privacy_repeats_bit_for_bit_whatever_the_global_seed(
    encoder: str, dropout: float
) -> None:
    first, second = one_round(1, encoder, dropout), one_round(2, encoder, dropout)
    assert first.delta.keys() == second.delta.keys()
    for name in first.delta:
        np.testing.assert_array_equal(first.delta[name], second.delta[name])
    assert first.metrics == second.metrics


def test_sites_and_rounds_draw_different_patients() -> None:
    losses = {
        one_round(0, site=site, number=number).metrics["train_loss"]
        for site in "ab"
        for number in (1, 2)
    }
    assert len(losses) == 4


def test_a_round_leaves_the_global_random_state_and_settings_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    plan = small_plan("none")
    site_model = small_model(plan)
    patients = token_patients(site_model, 3)
    train_round(site_model, patients, plan, "a", 1, "run")
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_delta_is_sgd_on_the_mean_of_patient_means_over_the_declared_number() -> None:
    plan = small_plan("none", declared=10, training={"weight_decay": 0.01})
    site_model = small_model(plan)
    patients = token_patients(site_model, 5)
    trained = train_round(site_model, patients, plan, "a", 1, "run")
    fresh = small_model(plan)
    parameters = fresh.parameters(fresh.groups["shared"])
    losses = [
        cross_entropy(fresh.logits(p.inputs), p.labels)  # type: ignore[arg-type]
        for p in patients
    ]
    grads = torch.autograd.grad(torch.stack(losses).sum() / 10, parameters)
    for name, parameter, grad in zip(fresh.groups["shared"], parameters, grads, strict=True):
        expected = -0.1 * (grad + 0.01 * parameter.detach())
        np.testing.assert_allclose(trained.delta[name], expected.numpy(), atol=2e-7)
    mean = float(torch.stack(losses).mean().detach())
    assert trained.metrics["train_loss"] == pytest.approx(mean, rel=1e-5)
    assert trained.metrics["drawn_patients"] == 5


def test_a_private_round_sends_no_metrics() -> None:
    plan = small_plan("local")
    site_model = small_model(plan)
    assert train_round(site_model, token_patients(site_model, 2), plan, "a", 1, "r").metrics == {}


def test_dropout_is_possible_under_privacy() -> None:
    plan = small_plan("local", dropout=0.3)
    site_model = small_model(plan)
    assert sensitivity_self_test(site_model, synthetic_inputs(site_model)) <= 1 + 1e-5
    delta = train_round(site_model, token_patients(site_model, 3), plan, "a", 1, "run").delta
    assert all(np.isfinite(value).all() for value in delta.values())


def test_training_lowers_the_loss() -> None:
    plan = small_plan("none", declared=9, training={"local_steps": 40, "learning_rate": 0.3})
    site_model = small_model(plan)
    patients = token_patients(site_model, 9)
    first = train_round(site_model, patients, plan, "a", 1, "run")
    second = train_round(site_model, patients, plan, "a", 2, "run")
    assert second.metrics["train_loss"] < 0.5 * first.metrics["train_loss"]


def test_fedbn_like_training_without_privacy_moves_the_local_norms_and_keeps_them() -> None:
    plan = small_plan("none", "local")
    site_model = small_model(plan)
    before = site_model.site_arrays()
    trained = train_round(site_model, token_patients(site_model, 4), plan, "a", 1, "run")
    after = site_model.site_arrays()
    assert before
    assert not set(before) & set(trained.delta)
    assert any((before[name] != after[name]).any() for name in before)


def mean_loss(site_model: SiteModel, patients: list) -> float:
    with torch.no_grad():
        return sum(
            float(cross_entropy(site_model.logits(p.inputs), p.labels)) for p in patients
        ) / len(patients)


def test_personalisation_lowers_the_local_objective_and_moves_the_residual_only() -> None:
    plan = small_plan("none", adaptation={"personalise_steps": 20, "personalise_penalty": 0.01})
    site_model = small_model(plan)
    patients = token_patients(site_model, 6)
    shared, before = site_model.shared_arrays(), mean_loss(site_model, patients)
    fitted = personalise(site_model, patients, plan)
    assert set(fitted) == set(site_model.groups["site"])
    assert any(value.any() for value in fitted.values())
    for name, value in site_model.shared_arrays().items():
        np.testing.assert_array_equal(value, shared[name])
    assert mean_loss(site_model, patients) < before
    again = small_model(plan)
    for name, value in personalise(again, patients, plan).items():
        np.testing.assert_array_equal(value, fitted[name])


def test_a_heavy_penalty_keeps_the_residual_near_zero() -> None:
    sizes = []
    for penalty in (0.0, 1000.0):
        plan = small_plan(
            adaptation={"personalise_penalty": penalty, "personalise_learning_rate": 0.01}
        )
        site_model = small_model(plan)
        fitted = personalise(site_model, token_patients(site_model, 6), plan)
        sizes.append(sum(float(np.abs(value).sum()) for value in fitted.values()))
    assert sizes[1] < 0.5 * sizes[0]


def test_personalise_never_leaves_the_residual_at_zero() -> None:
    plan = small_plan(adaptation={"personalise": "never"})
    site_model = small_model(plan)
    fitted = personalise(site_model, token_patients(site_model, 3), plan)
    assert fitted
    assert not any(value.any() for value in fitted.values())


def test_a_round_after_personalisation_starts_from_zero_residuals() -> None:
    plan = small_plan("none")
    site_model = small_model(plan)
    patients = token_patients(site_model, 4)
    start = site_model.shared_arrays()
    fresh = train_round(site_model, patients, plan, "a", 1, "run")
    site_model.load_shared(start)
    personalise(site_model, patients, plan)
    again = train_round(site_model, patients, plan, "a", 1, "another")
    for name in fresh.delta:
        np.testing.assert_array_equal(fresh.delta[name], again.delta[name])


def test_shared_and_site_parameters_are_loaded_by_name_and_shape() -> None:
    site_model = small_model(small_plan())
    shared = site_model.shared_arrays()
    name = next(iter(shared))
    for broken in (
        {key: value for key, value in shared.items() if key != name},
        shared | {"extra": shared[name]},
        shared | {name: np.zeros((*shared[name].shape, 1), np.float32)},
    ):
        with pytest.raises(SmrfedError, match="SMR-E330"):
            site_model.load_shared(broken)
    moved = {key: value + 1 for key, value in shared.items()}
    site_model.load_shared(dict(reversed(moved.items())))
    for key, value in site_model.shared_arrays().items():
        np.testing.assert_array_equal(value, moved[key])


def test_a_residual_in_the_shared_group_is_refused() -> None:
    plan = small_plan()
    federated = plan.groups.model_copy(update={"site": ()})
    with pytest.raises(SmrfedError, match="SMR-E305"):
        SiteModel.build(plan.model_copy(update={"groups": federated}), small_atlas())


class ArrayStore:
    """Volumes made from the scan's name; the real store reads them from disk."""

    def __init__(self) -> None:
        self.reads = 0

    def volume(self, scan: Scan) -> np.ndarray:
        self.reads += 1
        return np.random.default_rng(len(scan.session)).normal(size=GRID.shape).astype(np.float32)


@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_tokens_are_cached_only_when_everything_below_them_is_frozen(encoder: str) -> None:
    plan = small_plan("none", encoder=encoder)
    site_model = small_model(plan)
    store = ArrayStore()
    scans = tuple(Scan(s, Path(s), 1, None) for s in ("m0", "m012"))
    patients = [Patient("p1", None, scans), Patient("p2", "F", scans[:1])]
    examples = list(patient_examples(site_model, patients, store))
    assert [len(e.labels) for e in examples] == [2, 1]
    assert isinstance(examples[0].inputs, Tokens) == (encoder == "frozen")
    prepared = store.reads
    for number in (1, 2):
        train_round(site_model, examples, plan, "a", number, "run")
    assert store.reads - prepared == (0 if encoder == "frozen" else 6)


def test_tokens_on_disk_are_the_same_bits_and_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_model = small_model(small_plan("none"))
    patients = [Patient("p", None, tuple(Scan(s, Path(s), 1, None) for s in ("m0", "m012")))]
    folder = tmp_path / "tokens"

    def examples(folder: Path | None) -> list[PatientExamples]:
        return list(patient_examples(site_model, patients, ArrayStore(), folder))

    expected = examples(None)[0].inputs
    calls = 0
    tokenise = SiteModel.tokenise

    def counted(self: SiteModel, volumes: torch.Tensor) -> Tokens:
        nonlocal calls
        calls += 1
        return tokenise(self, volumes)

    monkeypatch.setattr(SiteModel, "tokenise", counted)
    for computed in (2, 2):
        found = examples(folder)[0].inputs
        assert torch.equal(found.regions, expected.regions)  # type: ignore[union-attr]
        assert torch.equal(found.slices, expected.slices)  # type: ignore[union-attr]
        assert calls == computed
    files = sorted(folder.iterdir())
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600"] * 2
    files[0].write_bytes(b"damaged")
    assert torch.equal(examples(folder)[0].inputs.regions, expected.regions)  # type: ignore[union-attr]
    assert calls == 3
    with torch.no_grad():
        site_model.parameters(site_model.groups["frozen"])[0].add_(1.0)
    examples(folder)
    assert calls == 5  # another encoder, other tokens


@pytest.mark.parametrize(
    "other", [{"site_norm": "off"}, {"site_norm": "local"}, {"site_norm": "shared"}]
)
def test_what_lies_above_the_tokens_shares_them(
    other: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patients = [Patient("p", None, (Scan("m0", Path("m0"), 1, None),))]
    (first,) = patient_examples(small_model(small_plan("none")), patients, ArrayStore(), tmp_path)
    model = small_model(small_plan("none", other["site_norm"]))
    (direct,) = patient_examples(model, patients, ArrayStore())
    # With another mode of layer A above the tokens, nothing is tokenised again.
    monkeypatch.setattr(SiteModel, "tokenise", None)
    (found,) = patient_examples(model, patients, ArrayStore(), tmp_path)
    for example in (first, direct):
        assert torch.equal(found.inputs.regions, example.inputs.regions)  # type: ignore[union-attr]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=4))
def test_seeded_streams_repeat_and_differ_by_their_parts(parts: list[str | int]) -> None:
    first = SeededRandom(*parts).uniform(8)
    np.testing.assert_array_equal(first, SeededRandom(*parts).uniform(8))
    assert (first != SeededRandom(*parts, "more").uniform(8)).any()
    assert ((first > 0) & (first <= 1)).all()


def test_normals_are_standard_normal() -> None:
    from scipy.stats import kstest

    normals = SeededRandom("normals").normal(200_001)
    assert normals.shape == (200_001,)
    assert kstest(normals, "norm").pvalue > 1e-4
