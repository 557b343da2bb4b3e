"""Layer B's affine placement: it undoes what a site's scanner did, and chance moves nobody."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.adaptation.moments import SiteMoments
from shared_model.adaptation.placement import Placement, placed
from shared_model.adaptation.shrinkage import log_spread_variances

C, D = 3, 6
SAME = Placement(np.ones(D), np.zeros(D))


def exact(scale: np.ndarray, shift: np.ndarray, patients: float) -> SiteMoments:
    """Moments of a site whose scanner makes ``scale * z + shift`` of the true embeddings."""
    rng = np.random.default_rng(3)
    means, spread = rng.normal(0, 1, (C, D)), rng.uniform(0.5, 2, D)
    return SiteMoments(
        scale * means + shift, np.full(C, patients / C), spread * scale**2, np.zeros(C)
    )


def sampled(rng: np.random.Generator, n: int, scale: float = 1.0) -> SiteMoments:
    y, z = rng.integers(0, C, n), scale * rng.standard_normal((n, D))
    means = np.stack([z[y == c].mean(0) for c in range(C)])
    counts = np.bincount(y, minlength=C).astype(float)
    return SiteMoments(means, counts, ((z - means[y]) ** 2).mean(0), np.zeros(C))


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_with_many_patients_two_sites_meet(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sites = {
        name: exact(rng.uniform(0.75, 1.3, D), rng.normal(0, 1, D), 3e6) for name in ("a", "b")
    }
    where = {name: placed(name, sites, SAME) for name in sites}
    means = {n: p.scale * sites[n].means + p.shift for n, p in where.items()}
    spread = {n: p.scale**2 * sites[n].variances for n, p in where.items()}
    np.testing.assert_allclose(spread["a"], spread["b"], rtol=0.01)
    np.testing.assert_allclose(means["a"].mean(0), means["b"].mean(0), atol=0.02)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_a_second_release_changes_nothing_when_nothing_was_left(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sites = {n: exact(rng.uniform(0.8, 1.2, D), rng.normal(0, 1, D), 3e7) for n in ("a", "b", "c")}
    first = {name: placed(name, sites, SAME) for name in sites}
    again = {
        name: SiteMoments(
            first[name].scale * site.means + first[name].shift,
            site.counts,
            first[name].scale ** 2 * site.variances,
            site.means_sd,
        )
        for name, site in sites.items()
    }
    for name in sites:
        second = placed(name, again, first[name])
        np.testing.assert_allclose(second.scale, first[name].scale, rtol=0.02)
        np.testing.assert_allclose(second.shift, first[name].shift, atol=0.05)


def test_chance_is_hardly_believed_and_a_real_spread_is() -> None:
    rng = np.random.default_rng(0)
    kept, raw, real = [], [], []
    for _ in range(200):
        sites = {name: sampled(rng, 48) for name in ("a", "b", "c", "d")}
        kept.append(np.log(placed("a", sites, SAME).scale))
        common = np.mean([site.variances for site in sites.values()], 0)
        raw.append(-0.5 * np.log(sites["a"].variances / common))
        real.append(placed("a", sites | {"a": sampled(rng, 48, 1.5)}, SAME).scale)
    assert np.square(kept).mean() < 0.4 * np.square(raw).mean()
    assert np.mean(real) < 0.87


def test_no_scale_beyond_twofold_and_noise_is_not_believed() -> None:
    wide = {
        "a": exact(np.full(D, 100.0), np.zeros(D), 3e6),
        "b": exact(np.ones(D), np.ones(D), 3e6),
    }
    scales = [placed(name, wide, SAME).scale for name in wide]
    assert min(s.min() for s in scales) >= 0.5
    assert max(s.max() for s in scales) <= 2.0
    rng = np.random.default_rng(1)
    loud = {
        name: SiteMoments(site.means, site.counts, site.variances, np.full(C, 3.0), 30.0)
        for name, site in ((n, sampled(rng, 48)) for n in "ab")
    }
    for name in loud:
        np.testing.assert_allclose(placed(name, loud, SAME).scale, 1, atol=0.02)


def test_the_variance_of_a_log_spread_is_that_of_samples() -> None:
    rng = np.random.default_rng(2)
    drawn = [sampled(rng, 60) for _ in range(2000)]
    found = np.var([np.log(moments.variances) for moments in drawn], axis=0)
    said = log_spread_variances(drawn[0], np.ones(D))
    np.testing.assert_allclose(found, said, rtol=0.2)


@pytest.mark.parametrize("classes_missing", [0, 1, 2])
def test_a_class_that_nobody_has_breaks_nothing(classes_missing: int) -> None:
    rng = np.random.default_rng(4)
    site = sampled(rng, 48)
    counts, means = site.counts.copy(), site.means.copy()
    counts[:classes_missing], means[:classes_missing] = 0.0, 0.0
    sites = {"a": SiteMoments(means, counts, site.variances, np.zeros(C)), "b": sampled(rng, 48)}
    for name in sites:
        where = placed(name, sites, SAME)
        assert np.isfinite(where.scale).all()
        assert np.isfinite(where.shift).all()
