"""From bounded sums over patients to adaptation.json, and back only as it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.adaptation.adapt import adapt
from shared_model.adaptation.model_moments import ModelMoments, model_moments
from shared_model.adaptation.scores import basis, scores, with_prevalence, without_offset
from shared_model.errors import SmrfedError
from shared_model.exported import ADAPTATION, MODEL, PLAN, ExportedModel, exported_files
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, encode_arrays
from shared_model.releases.statistics import patient_vectors, shapes, split

BODY = encode_arrays({"w": np.ones(3, np.float32)})


def plan_with(noise: float = 0.0, **calibration: Any) -> FederationPlan:
    section = {"unseen_sites": True, "noise_multiplier": noise} | calibration
    privacy = {"mode": "local", "noise_multiplier": 2.0} if noise else {"mode": "none"}
    sites = [{"name": n, "declared_patients": 300} for n in "ab"]
    return FederationPlan.parse(
        {
            "name": "p",
            "privacy": privacy,
            "calibration": section,
            "federation": {"sites": sites},
        }
    )


def patients(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    z = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[y]
    p = np.exp(z)
    return y, p / p.sum(1, keepdims=True), rng.normal(-0.3, 0.2, n)


def release(plan: FederationPlan, seeds: tuple[int, ...], n: int = 150) -> dict[str, Any]:
    out = {}
    for name, seed in zip("ab", seeds, strict=False):
        total = patient_vectors("calibrate", *patients(n, seed)[:2], plan, patients(n, seed)[2])
        noise = plan.calibration.noise_multiplier
        noised = total.sum(0) + noise * np.random.default_rng(seed + 50).normal(size=total.shape[1])
        out[name] = split("calibrate", noised.astype(np.float32), plan)
    return out


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(0.1, 50),
)
def test_one_patient_moves_all_sums_together_by_less_than_one(
    label: int, p: list[float], deviation: float, radius: float
) -> None:
    plan = plan_with(scores_radius=radius)
    total = sum(p)
    row = np.array([p]) / total if total > 0 else np.full((1, 3), 1 / 3)
    found = patient_vectors("calibrate", np.array([label]), row, plan, np.array([deviation]))
    numbers = sum(int(np.prod(s)) for s in shapes(plan, "calibrate").values())
    assert found.shape == (1, numbers)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found) < 1


def test_without_noise_they_are_the_moments() -> None:
    plan = plan_with(scores_radius=20.0)
    found = model_moments(release(plan, (1, 2)), plan, body_digest(BODY))
    y, p, u = (
        np.concatenate(parts) for parts in zip(patients(150, 1), patients(150, 2), strict=True)
    )
    z = np.concatenate([np.log(p) @ basis(3), 5 * u[:, None]], 1)
    means = np.stack([z[y == c].mean(0) for c in range(3)])
    np.testing.assert_allclose(found.source.means, means, atol=1e-4)
    covariance = (z - means[y]).T @ (z - means[y]) / len(y)
    np.testing.assert_allclose(found.source.covariance, covariance, atol=1e-3)
    np.testing.assert_allclose(found.prevalence, np.bincount(y) / len(y), atol=1e-6)
    assert found.patients == 300
    assert found.noise_sd == 0
    assert found.sites == 2


def test_noise_is_as_large_as_the_file_says() -> None:
    plan = plan_with(2.0)
    sums = release(plan_with(), (1, 2), 3000)
    exact = model_moments(sums, plan_with(), body_digest(BODY))
    errors = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        arrays = {
            site: {k: v + 2.0 * rng.normal(size=v.shape) for k, v in named.items()}
            for site, named in sums.items()
        }
        found = model_moments(arrays, plan, body_digest(BODY))
        errors.append(found.source.means - exact.source.means)
    spread = float(np.std(errors))
    assert spread == pytest.approx(found.noise_sd, rel=0.15)


@pytest.mark.parametrize("noise", [5.0])
def test_a_class_behind_noise_is_refused(noise: float) -> None:
    plan = plan_with(noise)
    with pytest.raises(SmrfedError, match="SMR-E643"):
        model_moments(release(plan, (1, 2), 40), plan, body_digest(BODY))


def test_no_release_is_refused() -> None:
    with pytest.raises(SmrfedError, match="SMR-E643"):
        model_moments({}, plan_with(), body_digest(BODY))


def test_the_decision_rule_moves_the_means_as_it_moves_the_scores() -> None:
    plan, offsets = plan_with(scores_radius=20.0), (0.5, -0.2, -0.3)
    y, p, u = patients(200, 3)
    moved = p * np.exp(offsets)
    moved /= moved.sum(1, keepdims=True)

    def of(q: np.ndarray, with_offsets: tuple[float, ...] | None) -> ModelMoments:
        total = patient_vectors("calibrate", y, q, plan, u).sum(0).astype(np.float32)
        arrays = {"a": split("calibrate", total, plan)}
        return model_moments(arrays, plan, body_digest(BODY), with_offsets)

    np.testing.assert_allclose(of(p, offsets).means, of(moved, None).means, atol=1e-4)
    np.testing.assert_allclose(of(p, offsets).covariance, of(moved, None).covariance, atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6))
def test_scores_lose_nothing_and_offsets_move_them(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), 5)
    b = rng.normal(size=classes)
    after = without_offset(p, b)
    np.testing.assert_allclose(
        scores(after, None, 1e9), scores(p, None, 1e9) - b[: classes - 1], atol=1e-6
    )
    np.testing.assert_allclose(without_offset(p, np.zeros(classes)), p, atol=1e-9)
    pi = rng.dirichlet(np.ones(classes))
    np.testing.assert_allclose(with_prevalence(p, pi, pi), p, atol=1e-9)


def test_scans_that_no_source_could_have_had_are_refused() -> None:
    plan = plan_with()
    source = model_moments(release(plan, (1, 2)), plan, body_digest(BODY)).source
    _, p, u = patients(40, 9)
    assert adapt(p, u, source, 6.0).offset_sd < 1
    with pytest.raises(SmrfedError, match="SMR-E646"):
        adapt(p, u + 3.0, source, 6.0)
    with pytest.raises(SmrfedError, match="SMR-E641"):
        adapt(p[:7], u[:7], source, 6.0)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def files() -> dict[str, bytes]:
    plan = plan_with()
    return exported_files(plan, BODY, model_moments(release(plan, (1, 2)), plan, body_digest(BODY)))


def test_an_export_is_read_as_it_was_written(tmp_path: Path, files: dict[str, bytes]) -> None:
    found = ExportedModel.read(write(tmp_path / "model", files))
    assert found.plan == plan_with()
    assert found.sha256 == body_digest(BODY)
    assert found.moments is not None
    assert found.moments.as_bytes == files[ADAPTATION]
    (tmp_path / "model" / ADAPTATION).unlink()
    assert ExportedModel.read(tmp_path / "model").moments is None


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d | {"means": [[1.0, 2.0, 3.0]]},
        lambda d: d | {"means": None},
        lambda d: d | {"more": 1},
        lambda d: d | {"format": 2},
        lambda d: d | {"covariance": [[0.0] * 3] * 3},
        lambda d: d | {"prevalence": [1.0, 0.0, 0.0]},
        lambda d: d | {"prevalence": [float("nan")] * 3},
        lambda d: {k: v for k, v in d.items() if k != "noise_sd"},
    ],
)
def test_moments_that_were_changed_are_refused(
    tmp_path: Path, files: dict[str, bytes], change: Any
) -> None:
    files[ADAPTATION] = json.dumps(change(json.loads(files[ADAPTATION]))).encode()
    with pytest.raises(SmrfedError, match="SMR-E642"):
        ExportedModel.read(write(tmp_path / "model", files))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_number(content: bytes) -> None:
    with pytest.raises(SmrfedError, match="SMR-E642"):
        ModelMoments.read(content)


def test_files_of_two_models_are_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    other = {**files, MODEL: encode_arrays({"w": np.zeros(3, np.float32)})}
    with pytest.raises(SmrfedError, match="SMR-E645"):
        ExportedModel.read(write(tmp_path / "model", other))
    second = plan_with(scores_radius=5.0)
    with pytest.raises(SmrfedError, match="SMR-E645"):
        ExportedModel.read(write(tmp_path / "model", {**files, PLAN: second.canonical_json}))


@pytest.mark.parametrize("missing", [MODEL, PLAN])
def test_a_missing_file_is_named(tmp_path: Path, files: dict[str, bytes], missing: str) -> None:
    folder = write(tmp_path / "model", files)
    (folder / missing).unlink()
    with pytest.raises(SmrfedError, match="SMR-E644") as caught:
        ExportedModel.read(folder)
    assert missing in str(caught.value)
