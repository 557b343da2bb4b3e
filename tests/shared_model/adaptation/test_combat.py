"""Federated ComBat against the pooled one, written down directly; its laws; its noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.privacy.gaussian_release import release_sum
from shared_model.adaptation.combat import Combat, fit_combat
from shared_model.adaptation.combat_sums import (
    PublicScale,
    SiteSums,
    noise_of_sums,
    patient_vectors,
)
from shared_model.errors import SmrfedError
from shared_model.privacy.secure_random import SeededRandom

Table = tuple[np.ndarray, np.ndarray]
P, G = 4, 7


def draw(seed: int, sizes: tuple[int, ...] = (20, 31, 26), effect: float = 1.0) -> dict[str, Table]:
    """Age, sex, MCI and AD; features with slopes, site locations and site scales."""
    rng = np.random.default_rng(seed)
    beta, level = rng.normal(0, 0.5, (P, G)), rng.normal(3, 1, G)
    out = {}
    for number, n in enumerate(sizes):
        diagnosis = rng.integers(0, 3, n)
        x = np.column_stack(
            [rng.normal(72, 7, n), rng.integers(0, 2, n), diagnosis == 1, diagnosis == 2]
        ).astype(float)
        location = effect * rng.normal(0, 1, G)
        spread = np.exp(effect * rng.normal(0, 0.3, G))
        scaled = (x - [72, 0, 0, 0]) / [7, 1, 1, 1]
        y = level + scaled @ beta + location + spread * rng.normal(0, 0.5, (n, G))
        out[f"site-{number}"] = (x, y)
    return out


def units(radius: float = np.inf) -> PublicScale:
    return PublicScale(
        np.array([72.0, 0, 0, 0]),
        np.array([7.0, 1, 1, 1]),
        np.full(G, 3.0),
        np.ones(G),
        3.0 if np.isfinite(radius) else np.inf,
        radius,
    )


def fit(tables: dict[str, Table], **options: object) -> Combat:
    sums = {name: SiteSums.exact(x, y, units()) for name, (x, y) in tables.items()}
    return fit_combat(sums, units(), **options)  # type: ignore[arg-type]


def pooled_combat(tables: dict[str, Table]) -> dict[str, np.ndarray]:
    """Johnson et al. 2007 on one table, step by step, as published implementations do it."""
    x = np.concatenate([t[0] for t in tables.values()])
    y = np.concatenate([t[1] for t in tables.values()])
    batch = np.concatenate([np.full(len(t[0]), k) for k, t in enumerate(tables.values())])
    onehot = (batch[:, None] == np.arange(len(tables))).astype(float)
    design = np.concatenate([onehot, x], 1)
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    k = len(tables)
    grand = onehot.mean(0) @ coefficients[:k]
    sd = np.sqrt(((y - design @ coefficients) ** 2).mean(0))
    known = grand + x @ coefficients[k:]
    z = (y - known) / sd
    clean = np.empty_like(z)
    for b in range(k):
        rows = batch == b
        n, own = rows.sum(), z[rows]
        g_hat, d_hat = own.mean(0), own.var(0, ddof=1)
        g_bar, t2 = g_hat.mean(), g_hat.var(ddof=1)
        m, s2 = d_hat.mean(), d_hat.var(ddof=1)
        a, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        g, d = g_hat, d_hat
        for _ in range(2000):
            g = (n * t2 * g_hat + d * g_bar) / (n * t2 + d)
            d = (0.5 * ((own - g) ** 2).sum(0) + rate) / (n / 2 + a - 1)
        clean[rows] = (own - g) / np.sqrt(d)
    return {name: (clean * sd + known)[batch == number] for number, name in enumerate(tables)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_from_sums_it_is_the_pooled_one(seed: int) -> None:
    tables = draw(seed)
    model, oracle = fit(tables), pooled_combat(tables)
    for name, (x, y) in tables.items():
        np.testing.assert_allclose(model.harmonise(name, x, y), oracle[name], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.permutations(["site-0", "site-1", "site-2"]))
def test_the_order_of_sites_plays_no_part(seed: int, order: list[str]) -> None:
    tables = draw(seed)
    one, other = fit(tables), fit({name: tables[name] for name in order})
    np.testing.assert_array_equal(one.beta, other.beta)
    for name in order:
        np.testing.assert_array_equal(one.sites[name].location, other.sites[name].location)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(-5, 5))
def test_a_constant_added_at_one_site_is_taken_out(seed: int, constant: float) -> None:
    tables = draw(seed)
    x, y = tables["site-1"]
    moved = tables | {"site-1": (x, y + constant)}
    for eb in (True, False):
        before = fit(tables, eb=eb).harmonise("site-1", x, y)
        after = fit(moved, eb=eb).harmonise("site-1", x, y + constant)
        # All sites together carry the mean of the constants.
        share = len(x) / sum(len(t[0]) for t in tables.values())
        np.testing.assert_allclose(after, before + share * constant, atol=1e-6 if not eb else 0.5)


def test_it_removes_the_site_and_keeps_disease() -> None:
    tables = draw(3, (600, 600, 600), effect=2.0)
    model = fit(tables)
    clean = {name: model.harmonise(name, x, y) for name, (x, y) in tables.items()}

    def levels(of: dict[str, np.ndarray]) -> np.ndarray:
        return np.stack([of[n][tables[n][0][:, 2:].sum(1) == 0].mean(0) for n in tables])

    def disease(of: dict[str, np.ndarray]) -> np.ndarray:
        return np.mean(
            [
                of[n][tables[n][0][:, 3] == 1].mean(0)
                - of[n][tables[n][0][:, 2:].sum(1) == 0].mean(0)
                for n in tables
            ],
            0,
        )

    raw = {name: y for name, (_, y) in tables.items()}
    assert levels(raw).std(0).mean() > 8 * levels(clean).std(0).mean()
    np.testing.assert_allclose(disease(clean), disease(raw), atol=0.15)
    shifted = {name: model.without_location(name, y) for name, (_, y) in tables.items()}
    assert levels(raw).std(0).mean() > 8 * levels(shifted).std(0).mean()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=P, max_size=P),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=G, max_size=G),
)
def test_one_patient_moves_the_sums_by_less_than_one(x: list[float], y: list[float]) -> None:
    found = patient_vectors(np.array([x]), np.array([y]), units(4.0))
    assert np.isfinite(found).all()
    assert np.linalg.norm(found) < 1


def test_the_bounded_vectors_add_up_to_the_sums() -> None:
    scale = PublicScale(*[getattr(units(), k) for k in ("x_centre", "x_scale")],
                        np.full(G, 3.0), np.full(G, 4.0), 50.0, 50.0)  # fmt: skip
    x, y = draw(5)["site-0"]
    exact = SiteSums.exact(x, y, scale)
    found = SiteSums.of_noised(patient_vectors(x, y, scale).sum(0), P, scale)
    for name in ("n", "x", "xx", "y", "xy", "yy"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), atol=1e-4)


def test_without_a_bound_nothing_is_released_with_noise() -> None:
    x, y = draw(5)["site-0"]
    with pytest.raises(ValueError, match="radius"):
        patient_vectors(x, y, units())


@pytest.mark.parametrize("noise", [1.0, 30.0])
@pytest.mark.parametrize("seed", range(6))
def test_noise_never_breaks_it(noise: float, seed: int) -> None:
    """However much: finite numbers, positive variances, or a refusal by number."""
    scale, tables = units(6.0), draw(seed)
    sums = {
        name: SiteSums.of_noised(
            release_sum(patient_vectors(x, y, scale), noise, SeededRandom(seed, name)), P, scale
        )
        for name, (x, y) in tables.items()
    }
    ridge = float(noise_of_sums(noise, scale).xx[0]) * 3**0.5
    if min(s.n for s in sums.values()) < 2:
        with pytest.raises(SmrfedError, match="SMR-E647"):
            fit_combat(sums, scale, ridge=ridge)
        return
    model = fit_combat(sums, scale, ridge=ridge)
    for name, (x, y) in tables.items():
        assert np.isfinite(model.harmonise(name, x, y)).all()
        assert (model.sites[name].square_scale > 0).all()
    assert (model.variance > 0).all()


def test_with_many_patients_noise_hardly_matters() -> None:
    scale, tables = units(6.0), draw(1, (3000, 4000, 3500))
    exact = fit(tables)
    sums = {
        name: SiteSums.of_noised(
            release_sum(patient_vectors(x, y, scale), 1.0, SeededRandom(0, name)), P, scale
        )
        for name, (x, y) in tables.items()
    }
    noised = fit_combat(sums, scale, ridge=float(noise_of_sums(1.0, scale).xx[0]) * 3**0.5)
    for name, (_, y) in tables.items():
        apart = noised.without_location(name, y) - exact.without_location(name, y)
        assert np.abs(apart).max() < 0.1


@pytest.mark.parametrize("rows", [0, 1])
def test_an_empty_site_is_refused(rows: int) -> None:
    x, y = draw(1)["site-0"]
    with pytest.raises(SmrfedError, match="SMR-E647"):
        SiteSums.exact(x[:rows], y[:rows], units())
    sums = SiteSums.exact(x, y, units())
    none = SiteSums(0.0, sums.x * 0, sums.xx * 0, sums.y * 0, sums.xy * 0, sums.yy * 0)
    with pytest.raises(SmrfedError, match="SMR-E647"):
        fit_combat({"a": sums, "b": none}, units())
    with pytest.raises(SmrfedError, match="SMR-E647"):
        fit_combat({"a": sums}, units())


def test_a_missing_value_is_refused() -> None:
    x, y = draw(1)["site-0"]
    x[0, 0] = np.nan
    with pytest.raises(SmrfedError, match="SMR-E647"):
        SiteSums.exact(x, y, units())
