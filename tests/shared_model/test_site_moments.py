"""Layer B's moments: sensitivity by brute force, noise, closed forms, per-patient terms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import multivariate_normal

from shared_model.adaptation import moments as m
from shared_model.adaptation.alignment import MomentMatching, SiteConfusion
from shared_model.adaptation.dimensions import moments_dimensions
from shared_model.adaptation.shrinkage import offset_variances, shrunk
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan

RADIUS, C, D = 3.0, 3, 4
EMBEDDINGS = arrays(
    np.float64, (5, D), elements=st.floats(allow_nan=True, allow_infinity=True, width=64)
)


def sums(y: np.ndarray, z: np.ndarray, radius: float = RADIUS) -> dict[str, np.ndarray]:
    total, out, start = m.patient_vectors(y, z, C, radius).sum(0), {}, 0
    for name, shape in m.shapes(C, z.shape[1]).items():
        out[name] = total[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
    assert start == len(total)
    return out


def people(n: int = 400, seed: int = 0, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, C, n)
    z = rng.normal(0, [0.2, 0.3, 0.4, 0.5], (n, D)) + 0.5 * np.eye(C, D)[y] + offset
    return y, z


@given(z=EMBEDDINGS, y=st.lists(st.integers(0, C - 1), min_size=5, max_size=5))
def test_any_patient_moves_the_sums_by_less_than_one(z: np.ndarray, y: list[int]) -> None:
    labels = np.array(y)
    rows = m.patient_vectors(labels, z, C, RADIUS)
    assert np.isfinite(rows).all()
    everybody = rows.sum(0)
    for left_out in range(5):
        rest = np.delete(np.arange(5), left_out)
        others = m.patient_vectors(labels[rest], z[rest], C, RADIUS).sum(0)
        assert np.linalg.norm(everybody - others) <= 1 - 1e-7
    # One class each: the patients' rows of different classes do not overlap (parallel composition).
    for one, other in ((i, j) for i in range(5) for j in range(i) if labels[i] != labels[j]):
        assert not (rows[one] * rows[other]).any()


def test_the_bound_is_nearly_used() -> None:
    z = np.array([[RADIUS, 0, 0, 0], [0.0, 0, 0, 0]])
    norms = np.linalg.norm(m.patient_vectors(np.array([0, 1]), z, C, RADIUS), axis=1)
    assert 0.999 < norms[0] < 1
    assert norms[1] == pytest.approx(math.sqrt(0.1), rel=1e-5)


def test_without_noise_moments_are_those_of_numpy() -> None:
    y, z = people()
    found = m.SiteMoments.of(sums(y, z, 10.0), 10.0)
    for c in range(C):
        np.testing.assert_allclose(found.means[c], z[y == c].mean(0), atol=1e-4)
    np.testing.assert_allclose(found.counts, np.bincount(y), rtol=1e-5)
    within = np.concatenate([z[y == c] - z[y == c].mean(0) for c in range(C)])
    np.testing.assert_allclose(found.variances, (within**2).mean(0), rtol=1e-2)
    assert not found.means_sd.any()


def test_the_noise_of_a_mean_is_as_large_as_it_says() -> None:
    y, z = people(300)
    exact, noise = sums(y, z), 2.0
    rng = np.random.default_rng(1)
    truth = m.SiteMoments.of(exact, RADIUS)
    draws = []
    for _ in range(300):
        noised = {n: v + noise * rng.standard_normal(v.shape) for n, v in exact.items()}
        draws.append(m.SiteMoments.of(noised, RADIUS, noise).means - truth.means)
    found, said = np.std(draws, axis=(0, 2)), m.SiteMoments.of(exact, RADIUS, noise).means_sd
    np.testing.assert_allclose(found, said, rtol=0.25)


def test_noise_alone_never_breaks_the_moments() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        noised = {n: 20 * rng.standard_normal(s) for n, s in m.shapes(C, D).items()}
        found = m.SiteMoments.of(noised, RADIUS, 20.0)
        assert (found.variances > 0).all()
        assert (found.counts >= 0).all()
        assert (np.linalg.norm(found.means, axis=1) <= RADIUS * (1 + 1e-9)).all()
        offset = found.offset_from(np.zeros((C, D)))
        assert np.isfinite(shrunk(offset, offset_variances(found))).all()


def two_sites(offset: float) -> dict[str, m.SiteMoments]:
    return {
        name: m.SiteMoments.of(sums(*people(seed=k, offset=k * offset), 20.0), 20.0)
        for k, name in enumerate("ab")
    }


def test_confusion_is_the_divergence_of_the_gaussian_posterior() -> None:
    sites = two_sites(0.4)
    y, z = people(20, seed=5)
    term = SiteConfusion(sites, np.eye(D), 0.7)
    found = term(torch.from_numpy(z), torch.from_numpy(y)).numpy()
    for row in range(20):
        density = np.array(
            [multivariate_normal(s.means[y[row]], np.diag(s.variances)).pdf(z[row])
             for s in sites.values()]
        )  # fmt: skip
        q = density / density.sum()
        assert found[row] == pytest.approx(0.7 * (0.5 * np.log(0.5 / q)).sum(), abs=1e-4)
    assert (found >= -1e-6).all()


def test_linear_matching_has_the_gradient_of_the_distance_of_means() -> None:
    sites = two_sites(0.4)
    y, z = people(400, seed=1, offset=0.4)  # the patients whose moments b released
    embedding = torch.from_numpy(z).requires_grad_()
    MomentMatching("b", sites, np.eye(D), 1.0)(embedding, torch.from_numpy(y)).mean().backward()
    assert embedding.grad is not None
    centre, variances = m.common_centre(sites), m.pooled_variances(sites)
    for c in range(C):
        pull = (sites["b"].means[c] - centre[c]) / variances
        np.testing.assert_allclose(embedding.grad[y == c].sum(0), pull * (y == c).mean(), rtol=1e-4)


@pytest.mark.parametrize("use", ["confusion", "linear"])
def test_the_term_of_a_patient_does_not_see_the_others(use: str) -> None:
    sites = two_sites(0.4)
    y, z = (torch.from_numpy(part) for part in people(6, seed=3))
    term = (
        SiteConfusion(sites, np.eye(D), 1.0)
        if use == "confusion"
        else MomentMatching("a", sites, np.eye(D), 1.0)
    )
    together = term(z, y)
    alone = torch.cat([term(z[i : i + 1], y[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone)
    mapped = torch.vmap(lambda a, b: term(a[None], b[None])[0])(z, y)
    torch.testing.assert_close(together, mapped)


def test_shrinkage_believes_a_large_offset_and_forgets_none() -> None:
    far, centre = two_sites(1.0), m.common_centre(two_sites(1.0))
    offset = far["b"].offset_from(centre)
    np.testing.assert_allclose(offset, 0.5, atol=0.1)
    variances = offset_variances(far["b"])
    assert np.linalg.norm(shrunk(offset, variances)) > 0.99 * np.linalg.norm(offset)
    # Offsets that are sampling and noise alone: what is kept is closer to the truth, zero.
    rng = np.random.default_rng(0)
    sd = np.sqrt(variances)
    drawn = rng.normal(0, sd, (500, D))
    kept = np.array([shrunk(row, variances) for row in drawn])
    assert (kept**2).sum() < 0.6 * (drawn**2).sum()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), d=st.integers(1, 8))
def test_the_projection_is_orthonormal_and_public(seed: int, d: int) -> None:
    columns = m.projection(seed, 8, d)
    np.testing.assert_allclose(columns.T @ columns, np.eye(d), atol=1e-12)
    np.testing.assert_array_equal(columns, m.projection(seed, 8, d))
    np.testing.assert_array_equal(m.projection(seed, 8, None), np.eye(8))


@pytest.mark.parametrize(
    "adaptation",
    [
        {"personalise": "private", "site_norm": "shared"},
        {"site_moments": "shift", "site_norm": "off"},
        {"site_moments": "shift", "personalise": "private"},
        {"site_moments": "affine", "site_norm": "shared"},
        {"site_moments": "affine", "moments_dimensions": 3},
        {"moments_noise_multiplier": 1.0},
        {"site_moments": "linear"},  # no noise in mode local
    ],
    ids=str,
)
def test_plans_that_contradict_themselves_are_refused(adaptation: dict[str, object]) -> None:
    with pytest.raises(SmrfedError, match="SMR-E102"):
        FederationPlan.parse(
            {
                "name": "x",
                "privacy": {"mode": "local", "noise_multiplier": 3.0},
                "adaptation": adaptation,
                "federation": {"sites": [{"name": "a", "declared_patients": 9}]},
            }
        )


def test_a_model_without_embedding_cannot_release_moments() -> None:
    plan = FederationPlan.parse(
        {
            "name": "x",
            "model": {"name": "published"},
            "privacy": {"mode": "none"},
            "adaptation": {"site_moments": "linear"},
            "federation": {"sites": [{"name": "a", "declared_patients": 9}]},
        }
    )
    with pytest.raises(SmrfedError, match="SMR-E380"):
        moments_dimensions(plan)
