"""Standardisation of grey values: what it guarantees for one scan by itself."""

from __future__ import annotations

import numpy as np
import pytest
from bids_fixture import brain, template

from client.prepared.intensity import Intensity, standardise

METHODS: tuple[Intensity, ...] = ("zscore", "quantile")


def test_the_brain_has_median_0_and_unit_robust_spread() -> None:
    volume = brain(1)
    out = standardise(volume)
    inside = out[volume > 0]
    assert np.median(inside) == pytest.approx(0, abs=1e-5)
    lower, upper = np.quantile(inside, (0.25, 0.75))
    assert upper - lower == pytest.approx(1.349, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_outside_is_exactly_the_dark_end_of_the_scale(method: Intensity) -> None:
    volume = brain(2)
    out = standardise(volume, method=method)
    assert out.dtype == np.float32
    assert out.shape == volume.shape
    assert (out[volume == 0] == -4).all()
    assert out.min() == -4
    assert out.max() <= 4


@pytest.mark.parametrize("method", METHODS)
def test_gain_of_the_scanner_does_not_matter(method: Intensity) -> None:
    volume = brain(3)
    np.testing.assert_allclose(
        standardise(volume * 37.5, method=method), standardise(volume, method=method), atol=2e-3
    )


def test_quantiles_remove_a_monotone_tissue_curve_that_zscore_keeps() -> None:
    volume = brain(4)
    curved = np.sqrt(volume)
    apart = {
        method: np.abs(standardise(curved, method=method) - standardise(volume, method=method))
        for method in METHODS
    }
    assert apart["quantile"].mean() < 0.1 * apart["zscore"].mean()


def test_quantiles_leave_the_template_as_zscore_does() -> None:
    volume = template()
    apart = np.abs(standardise(volume, method="quantile") - standardise(volume))
    # Not zero: the reference is the template at 1 mm, this is a sample of it at 4 mm.
    assert apart.mean() < 0.01


def test_a_mask_decides_what_counts() -> None:
    volume = brain(5)
    left = np.zeros(volume.shape, bool)
    left[: volume.shape[0] // 2] = True
    changed = np.where(left, volume, 1e6).astype(np.float32)
    mask = left & (volume > 0)
    np.testing.assert_array_equal(standardise(changed, mask), standardise(volume, mask))


def test_integer_voxels_and_few_grey_levels() -> None:
    volume = (brain(6) / 32).astype(np.uint8)
    for method in METHODS:
        out = standardise(volume, method=method)
        assert np.isfinite(out).all()
        assert len(np.unique(out)) == len(np.unique(volume))


@pytest.mark.parametrize(
    ("volume", "mask", "message"),
    [
        (np.zeros((4, 4, 4)), None, "no voxel"),
        (np.ones((4, 4, 4)), None, "no contrast"),
        (np.full((4, 4, 4), np.inf), None, "NaN or infinity"),
        (np.ones((4, 4, 4)), np.ones((4, 4), bool), "shape"),
    ],
)
def test_what_cannot_be_standardised_is_refused(
    volume: np.ndarray, mask: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        standardise(volume, mask)


def test_a_method_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        standardise(brain(7), method="minmax")  # type: ignore[arg-type]
