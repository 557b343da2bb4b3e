"""Layer C: EM over offset and prevalence; its laws, its refusals, and the table of science 3.4."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from shared_model.adaptation.source import SourceMoments
from shared_model.adaptation.unseen_site import (
    Shrinkage,
    SiteEstimate,
    estimate_site,
    nearest_class,
    shown_offset,
)
from shared_model.errors import SmrfedError

Floats = np.ndarray


def some_source(seed: int, classes: int = 3, dimensions: int = 3) -> SourceMoments:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(dimensions, dimensions))
    prevalence = rng.dirichlet(np.full(classes, 5.0))
    return SourceMoments.floored(
        rng.normal(0, 2, (classes, dimensions)), root @ root.T + np.eye(dimensions), prevalence
    )


def draw(source: SourceMoments, n: int, offset: Floats, prevalence: Floats, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    y = rng.choice(len(prevalence), n, p=prevalence)
    noise = rng.multivariate_normal(np.zeros(len(offset)), source.covariance, n)
    return source.means[y] + offset + noise


def objective(z: Floats, source: SourceMoments, found: SiteEstimate, prior: Shrinkage) -> float:
    """The maximised quantity, from scipy's densities: an oracle of its own."""
    density = np.stack(
        [multivariate_normal(m + found.offset, source.covariance).pdf(z) for m in source.means], 1
    )
    inverse = np.linalg.inv(source.covariance)
    alpha = prior.prevalence_patients * source.prevalence
    return float(
        np.log(density @ found.prevalence).sum()
        - 0.5 * prior.offset_scans * found.offset @ inverse @ found.offset
        + alpha @ np.log(found.prevalence)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 60))
def test_the_objective_never_falls_and_is_the_stated_one(seed: int, n: int) -> None:
    source, prior = some_source(seed), Shrinkage(20.0, 12.0)
    z = draw(source, n, np.full(3, 0.7), np.array([0.6, 0.3, 0.1]), seed + 1)
    found = estimate_site(z, source, shrinkage=prior)
    assert (np.diff(found.objective) >= -1e-8 * np.abs(found.objective[-1])).all()
    assert found.objective[-1] == pytest.approx(objective(z, source, found, prior), rel=1e-6)
    assert found.prevalence.sum() == pytest.approx(1)
    assert found.scans == n


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_what_em_finds_is_a_maximum(seed: int) -> None:
    """No small step in any direction does better: a wrong M-step would be seen here."""
    source, prior = some_source(seed), Shrinkage()
    z = draw(source, 40, np.full(3, 0.5), np.array([0.5, 0.3, 0.2]), seed)
    found = estimate_site(z, source, shrinkage=prior, tolerance=1e-12)
    best = objective(z, source, found, prior)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        log = np.log(found.prevalence) + rng.normal(0, 0.02, 3)
        near = SiteEstimate(
            found.offset + rng.normal(0, 0.02, 3), np.exp(log) / np.exp(log).sum(), (), 40
        )
        assert objective(z, source, near, prior) <= best + 1e-4


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_the_order_of_scans_plays_no_part(seed: int, shuffle: object) -> None:
    source = some_source(seed)
    z = draw(source, 20, np.zeros(3), source.prevalence, seed)
    order = list(range(20))
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    one, other = estimate_site(z, source), estimate_site(z[order], source)
    np.testing.assert_allclose(one.offset, other.offset, atol=1e-6)
    np.testing.assert_allclose(one.prevalence, other.prevalence, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_moving_source_and_site_together_changes_nothing(seed: int) -> None:
    """And so does any invertible linear map of all scores: there is no preferred unit."""
    source = some_source(seed)
    z = draw(source, 25, np.full(3, 0.4), source.prevalence, seed)
    one = estimate_site(z, source)
    rng = np.random.default_rng(seed)
    shift, turn = rng.normal(0, 3, 3), rng.normal(size=(3, 3)) + 3 * np.eye(3)
    moved = SourceMoments(
        (source.means + shift) @ turn, turn.T @ source.covariance @ turn, source.prevalence
    )
    other = estimate_site((z + shift) @ turn, moved)
    np.testing.assert_allclose(other.offset, one.offset @ turn, atol=1e-5)
    np.testing.assert_allclose(other.prevalence, one.prevalence, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_recentring_without_shrinkage_is_equivariant_to_offsets(seed: int) -> None:
    """With far-apart classes the site's own offset is found whole, and more of it adds to it."""
    source = some_source(seed)
    apart = SourceMoments(20 * np.eye(3), source.covariance, source.prevalence)
    z = draw(apart, 60, np.zeros(3), source.prevalence, seed)
    free = Shrinkage(0.0, 12.0)
    one = estimate_site(z, apart, "recentre", free)
    other = estimate_site(z + 0.5, apart, "recentre", free)
    np.testing.assert_allclose(other.offset - one.offset, 0.5, atol=1e-3)


def test_many_scans_show_offset_and_prevalence() -> None:
    source = some_source(3)
    offset, prevalence = np.array([1.0, -0.5, 0.5]), np.array([0.7, 0.2, 0.1])
    found = estimate_site(draw(source, 20_000, offset, prevalence, 4), source)
    np.testing.assert_allclose(found.offset, offset, atol=0.2)
    np.testing.assert_allclose(found.prevalence, prevalence, atol=0.05)


def test_shrinkage_keeps_few_scans_near_the_source() -> None:
    source = some_source(5)
    z = draw(source, 8, np.zeros(3), source.prevalence, 6)
    far = Shrinkage(1e6, 1e6)
    found = estimate_site(z, source, shrinkage=far)
    assert np.abs(found.offset).max() < 1e-3
    np.testing.assert_allclose(found.prevalence, source.prevalence, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_an_offset_is_taken_only_when_it_is_shown(seed: int) -> None:
    source = some_source(seed)
    z = draw(source, 40, np.full(3, 0.3), source.prevalence, seed)
    found = shown_offset(z, source)
    assert found.gain >= -1e-6  # what is free fits better
    assert bool(found.estimate.offset.any()) == (found.gain >= found.needed)
    never, always = shown_offset(z, source, level=0.0), shown_offset(z, source, level=1.0)
    np.testing.assert_array_equal(never.estimate.offset, 0)
    np.testing.assert_array_equal(always.estimate.offset, estimate_site(z, source).offset)


def test_sites_without_offset_rarely_show_one() -> None:
    source, shown = some_source(11), 0
    for seed in range(200):
        z = draw(source, 30, np.zeros(3), source.prevalence, seed)
        shown += bool(shown_offset(z, source, level=0.05).estimate.offset.any())
    assert shown <= 20  # 10 expected at most: the prior makes the test hold back


def test_recentring_holds_the_prevalence() -> None:
    source = some_source(7)
    z = draw(source, 30, np.ones(3), np.array([0.9, 0.05, 0.05]), 8)
    assert estimate_site(z, source, "recentre").prevalence == pytest.approx(source.prevalence)


@pytest.mark.parametrize(
    "z", [np.zeros((7, 3)), np.zeros((9, 2)), np.full((9, 3), np.nan), np.zeros(9)]
)
def test_too_few_or_unusable_scores_are_refused(z: Floats) -> None:
    with pytest.raises(SmrfedError, match="SMR-E641"):
        estimate_site(z, some_source(1))


def test_distance_is_that_of_mahalanobis() -> None:
    source = some_source(9)
    z = draw(source, 5, np.ones(3), source.prevalence, 10)
    inverse = np.linalg.inv(source.covariance)
    apart = z[:, None] - source.means - 0.5
    oracle = np.sqrt(np.einsum("ncd,de,nce->nc", apart, inverse, apart)).min(1)
    np.testing.assert_allclose(nearest_class(z, source, np.full(3, 0.5)), oracle)


@pytest.mark.parametrize(
    ("means", "covariance", "prevalence"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2)), np.array([0.5, 0.5])),
        (np.zeros((2, 2)), np.eye(3), np.array([0.5, 0.5])),
        (np.zeros((2, 2)), np.eye(2), np.array([1.0, 0.0])),
        (np.full((2, 2), np.nan), np.eye(2), np.array([0.5, 0.5])),
    ],
)
def test_impossible_moments_are_refused(
    means: Floats, covariance: Floats, prevalence: Floats
) -> None:
    with pytest.raises(SmrfedError, match="SMR-E642"):
        SourceMoments(means, covariance, prevalence)


def test_noise_cannot_make_the_covariance_singular() -> None:
    noisy = SourceMoments.floored(
        np.zeros((2, 2)), np.array([[1.0, 5.0], [-1.0, -3.0]]), np.array([1.0, -0.2])
    )
    assert np.linalg.eigvalsh(noisy.covariance).min() > 0
    assert (noisy.prevalence > 0).all()
