from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from shared_model.metrics.site_probe import multinomial_fit, site_probe


def _embeddings(
    seed: int, sites: int = 3, per_cell: int = 30, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    site = np.tile(np.repeat(np.arange(sites), per_cell), 3)
    y = np.repeat([0, 1, 2], sites * per_cell)
    z = rng.normal(size=(len(y), 6))
    z[:, 0] += 4 * y  # the disease
    z[:, 1] += shift * site
    return z, site, y


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sites", [2, 4])
@pytest.mark.parametrize("penalty", [0.1, 1.0, 20.0])
def test_fit_equals_scikit_learn(seed: int, sites: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(sites), np.arange(sites) * 10 + 15)
    x = rng.normal(size=(len(truth), 5)) + 0.5 * truth[:, None]
    weights, bias = multinomial_fit(x, truth, penalty)
    # Two classes: scikit-learn fits one weight for both; half of the ridge is ours.
    strength = penalty if sites > 2 else penalty / 2
    fit = LogisticRegression(C=1 / strength, class_weight="balanced", tol=1e-10, max_iter=10000)
    fit.fit(x, truth)
    ours = x @ weights + bias
    ours = np.exp(ours - ours.max(1, keepdims=True))
    ours /= ours.sum(1, keepdims=True)
    assert ours == pytest.approx(fit.predict_proba(x), abs=1e-4)


def test_sites_that_differ_are_told_and_sites_that_do_not_are_not() -> None:
    told = site_probe(*_embeddings(0, shift=4.0), draws=200)
    assert told.accuracy > 0.9
    assert told.chance == pytest.approx(1 / 3)
    assert told.low <= told.accuracy <= told.high
    assert told.low > told.chance
    assert len(told.by_class) == 3
    values = [site_probe(*_embeddings(seed), draws=1).accuracy for seed in range(10)]
    assert np.mean(values) == pytest.approx(1 / 3, abs=0.05)


def test_prevalence_alone_does_not_tell_the_site() -> None:
    """Two sites of the same scanner, one with the ill and one with the healthy."""
    rng = np.random.default_rng(0)
    y = np.r_[np.zeros(300), np.ones(60), np.zeros(60), np.ones(300)].astype(int)
    site = np.repeat(["clinic", "screening"], 360)
    z = rng.normal(size=(720, 4))
    z[:, 0] += 4 * y
    conditional = site_probe(z, site, y, draws=1)
    assert conditional.accuracy == pytest.approx(0.5, abs=0.08)
    blind = site_probe(z, site, np.zeros(720, dtype=int), draws=1)
    assert blind.accuracy > 0.75


def test_probe_equals_scikit_learn_on_the_same_kind_of_folds() -> None:
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    z, site, y = _embeddings(3, per_cell=80, shift=1.5)
    expected = []
    for c in range(3):
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        called = cross_val_predict(model, z[y == c], site[y == c], cv=folds)
        truth = site[y == c]
        expected.append(np.mean([(called[truth == s] == s).mean() for s in range(3)]))
    found = site_probe(z, site, y, draws=1)
    # Other folds, same method: a few patients on the border change sides.
    assert found.accuracy == pytest.approx(np.mean(expected), abs=0.03)


def test_permutations_find_a_shift_and_keep_their_level() -> None:
    shifted = site_probe(*_embeddings(0, per_cell=15, shift=2.0), permutations=19, draws=1)
    assert shifted.p_value == pytest.approx(1 / 20)
    values = [
        site_probe(*_embeddings(s, per_cell=12), permutations=9, draws=1, seed=s).p_value
        for s in range(6)
    ]
    assert np.mean(values) > 0.25
    assert np.isnan(site_probe(*_embeddings(0), draws=1).p_value)


def test_only_cells_with_enough_patients_take_part() -> None:
    z, site, y = _embeddings(0, per_cell=12)
    small = (y == 2) & (site == 1)
    keep = ~(small & (np.cumsum(small) > 9))
    found = site_probe(z[keep], site[keep], y[keep], draws=1)
    assert [part.sites for part in found.by_class] == [("0", "1", "2"), ("0", "1", "2"), ("0", "2")]
    assert found.chance == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    none = site_probe(z[site == 0], site[site == 0], y[site == 0])
    assert np.isnan([none.accuracy, none.low, none.chance]).all()
    assert none.by_class == ()


def test_unit_and_offset_of_a_feature_and_a_constant_one_play_no_part() -> None:
    z, site, y = _embeddings(1, shift=1.0)
    plain = site_probe(z, site, y, draws=1).accuracy
    scaled = site_probe(1000 * z + 7, site, y, draws=1).accuracy
    constant = site_probe(np.c_[z, np.full(len(z), 3.3)], site, y, draws=1).accuracy
    assert scaled == pytest.approx(plain, abs=0.01)
    assert constant == pytest.approx(plain, abs=0.01)


def test_shapes_and_folds_are_checked() -> None:
    z, site, y = _embeddings(0)
    with pytest.raises(ValueError, match="embeddings"):
        site_probe(z, site[:-1], y)
    with pytest.raises(ValueError, match="folds"):
        site_probe(z, site, y, folds=5, minimum=4)
