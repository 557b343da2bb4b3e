"""Reorientation, the brain mask and the bias field."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import permutations

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from preprocessing_head import affine_of, template_work

from client.archive.problems import Defect, Problem
from client.preprocessing.bias_field import CorrectBiasField
from client.preprocessing.brain_extraction import ExtractBrain, edge_share, stripped_foreground
from client.preprocessing.image import Image, Work
from client.preprocessing.reorient import Reorient, from_zero


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@given(
    st.sampled_from(list(permutations(range(3)))),
    st.tuples(*[st.booleans()] * 3),
    st.tuples(*[st.floats(-15, 15)] * 3),
)
@settings(max_examples=40, deadline=None)
def test_any_axis_order_becomes_the_same_ras_volume(
    order: tuple[int, ...], flips: tuple[bool, ...], degrees: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(0)
    ras = rng.uniform(1, 2, (60, 55, 52)).astype(np.float32)
    affine = affine_of(degrees, (2.0, 2.0, 2.0), (3, 4, 5))
    image = nibabel.Nifti1Image(ras, affine)
    signs = np.where(flips, -1, 1)
    turned = image.as_reoriented(np.stack([order, signs], axis=1))
    stored = np.ascontiguousarray(turned.dataobj)
    out = Reorient()(Work(Image(stored, turned.affine)))
    np.testing.assert_array_equal(out.image.voxels, ras)
    np.testing.assert_allclose(out.image.affine, affine, atol=1e-4)
    assert out.findings["stored_axes"] == "".join(nibabel.aff2axcodes(turned.affine))


@pytest.mark.parametrize(
    ("shape", "spacing"), [((60, 60, 22), (4, 4, 5)), ((256, 256, 60), (1, 1, 1))]
)
def test_a_coarse_scan_or_a_slab_is_refused(
    shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> None:
    scan = Work(Image(np.ones(shape, dtype=np.float32), affine_of(scales=spacing)))
    with pytest.raises(Defect) as raised:
        Reorient()(scan)
    assert raised.value.kind is Problem.TOO_COARSE


def test_greys_begin_at_zero() -> None:
    scan = template_work().image.voxels
    np.testing.assert_array_equal(from_zero(scan), scan)
    np.testing.assert_allclose(from_zero(scan - 4), scan, atol=1e-3)
    noisy = scan + np.random.default_rng(0).normal(0, 5, scan.shape).astype(np.float32)
    assert from_zero(noisy).min() == 0


@pytest.mark.parametrize("background", [pytest.param(0.0, marks=pytest.mark.slow), 37.0])
def test_a_stripped_scan_keeps_its_own_mask(background: float) -> None:
    scan = template_work()
    voxels = scan.image.voxels + np.float32(background)
    work = ExtractBrain()(Work(Image(voxels, scan.image.affine)))
    assert work.brain is not None
    assert scan.brain is not None
    assert work.findings["already_stripped"]
    assert work.findings["deepbet_overlap"] > 0.9
    overlap = 2 * (work.brain & scan.brain).sum() / (work.brain.sum() + scan.brain.sum())
    assert overlap > 0.99


@pytest.mark.parametrize("kind", ["almost empty", "wrong voxel size"])
def test_what_holds_no_brain_is_refused(kind: str) -> None:
    if kind == "almost empty":
        voxels = np.zeros((64, 64, 64), dtype=np.float32)
        voxels[30:34, 30:34, 30:34] = 100
    else:
        voxels = template_work().image.voxels
    with pytest.raises(Defect) as raised:
        ExtractBrain()(Work(Image(voxels, affine_of())))
    assert raised.value.kind is Problem.NO_BRAIN


def test_a_head_on_a_zero_background_is_not_stripped() -> None:
    scan = template_work()
    grid = np.indices(scan.image.voxels.shape, dtype=np.float32)
    centre = (np.array(scan.image.voxels.shape) / 2)[:, None, None, None]
    head = (((grid - centre) / (centre * 0.98)) ** 2).sum(axis=0) < 1
    voxels = np.where(head & (scan.image.voxels == 0), np.float32(300), scan.image.voxels)
    assert stripped_foreground(voxels, voxel_ml=0.008) is None
    assert stripped_foreground(scan.image.voxels, voxel_ml=0.008) is not None


def test_a_cut_off_brain_touches_the_edge() -> None:
    brain = template_work().brain
    assert brain is not None
    assert edge_share(np.pad(brain, 1)) == 0
    assert edge_share(brain[:, :, 40:]) > 0.01


def test_no_window_is_needed() -> None:
    code = (
        "import sys; sys.modules['tkinter'] = sys.modules['customtkinter'] = None; "
        "from client.preprocessing.brain_extraction import _deepbet; "
        "print(type(_deepbet(False)).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True, capture_output=True, text=True, env={"PATH": "", "HOME": "/"},
    )  # fmt: skip
    assert "BrainExtraction" in done.stdout


def test_a_known_bias_field_is_divided_out() -> None:
    scan = template_work(spacing_mm=4.0)
    assert scan.brain is not None
    step = CorrectBiasField(iterations=(50, 30))
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in scan.brain.shape), indexing="ij")
    field = np.exp(0.25 * x - 0.2 * y**2).astype(np.float32)
    biased = Image(scan.image.voxels * field, scan.image.affine)
    work = step(replace(scan, image=biased))

    def spread(voxels: np.ndarray) -> float:
        # Of what remains of the true greys: 0 where the field is known up to a factor.
        ratio = np.log(voxels[scan.brain] / scan.image.voxels[scan.brain])
        return float(ratio.std())

    plain = step(scan)
    template_own = spread(plain.image.voxels)
    assert spread(work.image.voxels) < 0.5 * spread(biased.voxels) + template_own
    low, high = work.findings["bias_field_range"]
    assert low < 0.95 < 1.05 < high
    again = step(replace(scan, image=biased))
    np.testing.assert_array_equal(again.image.voxels, work.image.voxels)
    untouched = CorrectBiasField(enabled=False)(scan)
    assert untouched is scan
