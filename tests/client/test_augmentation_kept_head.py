"""Augmentation where the head was kept (``strip = false``): a synthetic head, and a real one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from quality_heads import GRID, flat_head
from small_site import small_plan
from test_preprocessing_real_scans import DATA

from client.archive.nifti import read_volume
from client.prepared.intensity import BACKGROUND, Intensity, standardise
from client.prepared.native_recipe import NativeRecipe
from client.preprocessing.image import Image, Work
from client.training.augmentation.views import PlannedViews
from shared_model.augmentation import AugmentationSection
from shared_model.plan import AtlasSection, FederationPlan, InputSection
from shared_model.preparation import Preparation

PREPARATION = {"source": "native", "brain_extraction": {"strip": False}}
# Everything but what changes the scale on purpose.
SECTION = AugmentationSection(enabled=True, probability=1.0, grey_scale=0, grey_shift=0)
Greys = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def plan(intensity: Intensity, strip: bool = False) -> FederationPlan:
    preparation = PREPARATION | {"brain_extraction": {"strip": strip}}
    section = InputSection(
        grid=GRID, intensity=intensity, preparation=Preparation.model_validate(preparation)
    )
    return small_plan("none").model_copy(update={"input": section, "augmentation": SECTION})


def views(prepared: Greys, planned: PlannedViews | None, count: int) -> list[Greys]:
    assert planned is not None
    volume = torch.from_numpy(prepared)[None, None]
    found = [planned.kept(volume, "sub-01", 0, number) for number in range(count)]
    again = planned.kept(volume, "sub-01", 0, 0)
    assert torch.equal(found[0], again)
    return [view[0, 0].numpy() for view in found]


def check(prepared: Greys, brain: Mask, found: list[Greys]) -> None:
    outside = ~brain & (prepared > BACKGROUND + 0.5)
    assert outside.mean() > 0.02
    for view in found:
        assert view.dtype == np.float32
        assert np.isfinite(view).all()
        assert np.abs(view).max() <= 4
        assert (view != prepared).mean() > 0.2
        # The brain stays on the scale of a test scan, whatever happens to skull and air.
        lower, median, upper = np.quantile(view[brain], (0.25, 0.5, 0.75))
        was = np.quantile(prepared[brain], (0.25, 0.5, 0.75))
        assert abs(median - was[1]) < 0.06
        assert (upper - lower) / (was[2] - was[0]) == pytest.approx(1, abs=0.06)
        # The head is still there, and where it was.
        assert np.corrcoef(view[outside], prepared[outside])[0, 1] > 0.3
        assert np.corrcoef(view[brain], prepared[brain])[0, 1] > 0.5


@cache
def synthetic(method: Intensity) -> tuple[Greys, Mask]:
    work = flat_head(noise=0.06)
    assert work.on_grid is not None
    assert work.brain_on_grid is not None
    kept = standardise(work.on_grid, work.brain_on_grid, method, keep_outside=True)
    return kept, work.brain_on_grid


@pytest.mark.parametrize("method", ["zscore", "quantile"])
def test_the_brains_scale_does_not_follow_skull_and_air(method: Intensity) -> None:
    prepared, brain = synthetic(method)
    check(prepared, brain, views(prepared, PlannedViews.of(plan(method)), 6))


def test_only_a_plan_that_keeps_the_head_measures_elsewhere() -> None:
    stripped, kept = (PlannedViews.of(plan("zscore", strip)) for strip in (True, False))
    assert stripped is not None
    assert kept is not None
    assert (stripped.head, kept.head) == (False, True)
    assert not PlannedViews(SECTION, 0, 2.0, "zscore").head
    # An image without a voxel in the template's brain is still varied, and stays finite.
    odd = np.full(GRID.shape, BACKGROUND, np.float32)
    odd[:3, :3, :3] = np.arange(27).reshape(3, 3, 3) / 27
    for view in views(odd, kept, 3):
        assert np.isfinite(view).all()


@cache
def real_head(state: Path) -> tuple[NativeRecipe, Work]:
    """A whole head with its skull, through the steps of a plan that keeps it."""
    torch.set_num_threads(1)
    raw = read_volume(DATA / "bids" / "ucla" / "sub-10" / "anat" / "sub-10_T1w.nii.gz")
    recipe = NativeRecipe(plan("zscore").input, AtlasSection(), state)
    return recipe, recipe.chain.run(Image(raw.voxels, raw.affine), raw.file_sha256)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no public scans at {DATA}")
@pytest.mark.parametrize("method", ["zscore", "quantile"])
def test_a_real_head_is_kept_and_varied(
    method: Intensity, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe, work = real_head(tmp_path_factory.getbasetemp() / "kept-head")
    brain = work.brain_on_grid
    assert brain is not None
    finished = NativeRecipe(plan(method).input, AtlasSection(), recipe.state_dir).greys(work)
    assert finished.on_grid is not None
    prepared = finished.on_grid
    # Skull and scalp are in the input: bright fat lies outside of the brain.
    assert ((prepared > 0) & ~brain).sum() > 0.1 * brain.sum()
    check(prepared, brain, views(prepared, PlannedViews.of(plan(method)), 8))
    # The stripped scan is the same brain, without what was around it.
    strip = NativeRecipe(plan(method, strip=True).input, AtlasSection(), recipe.state_dir)
    other = strip.greys(strip.steps[-1](work)).on_grid
    assert other is not None
    assert (other[~brain] == BACKGROUND).all()
    assert np.corrcoef(other[brain], prepared[brain])[0, 1] > 0.98
