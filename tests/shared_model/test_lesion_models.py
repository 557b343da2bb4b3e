"""Networks, losses and boxes of lesions: any grid, every scan by itself, targets that come back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from pydantic import ValidationError
from torch import nn

from shared_model.detection.decode import detections
from shared_model.detection.detector import DetectionLosses, DetectionOutput, LesionDetector
from shared_model.detection.targets import lesion_targets
from shared_model.layers.site_norm import SiteAdaptiveGroupNorm
from shared_model.metrics.boxes import boxes_of, iou
from shared_model.segmentation.config import HybridConfig, UNetConfig
from shared_model.segmentation.losses import segmentation_losses
from shared_model.segmentation.network import LesionSegmentation, SegmentationOutput
from shared_model.segmentation.norms import adapt_norms
from shared_model.segmentation.padding import BACKGROUND, centred_background, cropped, padded
from shared_model.segmentation.transformer import VolumeTransformer, positions

TINY = {"channels": (4, 8, 12), "strides": (2, 2), "features": 4}
HYBRID = HybridConfig(**TINY, layers=1, heads=2, hidden=8)


@pytest.mark.parametrize("config", [UNetConfig(**TINY), HYBRID])
@pytest.mark.parametrize("shape", [(16, 12, 8), (13, 11, 9)])
def test_any_sides_give_logits_of_the_same_sides(
    config: UNetConfig, shape: tuple[int, int, int]
) -> None:
    x = torch.randn(2, 1, *shape)
    assert LesionSegmentation(config)(x).logits.shape == (2, 2, *shape)
    found = LesionDetector(config)(x)
    assert found.logits.shape == (2, 1, *shape)
    assert found.faces.shape == (2, 6, *shape)


def test_default_networks_fit_the_default_policy() -> None:
    for model in (
        LesionSegmentation(UNetConfig()),
        LesionSegmentation(HybridConfig()),
        LesionDetector(UNetConfig()),
    ):
        assert sum(p.numel() for p in model.parameters()) < 50_000


def test_padding_is_cut_off_again_and_background_becomes_the_brain_s_median() -> None:
    x = torch.randn(1, 3, 5, 6, 7)
    wide = padded(x, 4)
    assert wide.shape[2:] == (8, 8, 8)
    assert torch.equal(cropped(wide, x), x)
    volume = torch.tensor([BACKGROUND, 0.5, -3.9])[None, None, None, None]
    assert centred_background(volume).flatten().tolist() == pytest.approx([0, 0.5, -3.9])


def test_every_norm_of_the_library_is_replaced_and_batch_norms_are_refused() -> None:
    for norm in ("INSTANCE", ("GROUP", {"num_groups": 2})):
        net = UNet(3, 1, 4, (4, 8), (2,), norm=norm)
        adapt_norms(net, 4, "residual")
        kinds = [type(m) for m in net.modules() if "Norm" in type(m).__name__]
        assert kinds
        assert set(kinds) == {SiteAdaptiveGroupNorm}
    with pytest.raises(ValueError, match="batch norm"):
        adapt_norms(nn.Sequential(nn.BatchNorm3d(4)), 2, "off")


def test_levels_and_heads_that_do_not_fit_are_refused() -> None:
    for wrong in ({"strides": (2,)}, {"strides": (2, 2, 3)}, {"classes": 3}):
        with pytest.raises(ValidationError):
            UNetConfig(**wrong)
    with pytest.raises(ValidationError, match="heads"):
        HybridConfig(heads=5)


def test_the_transformer_sees_where_a_token_lies() -> None:
    layer = VolumeTransformer(12, 1, 2, 8).double()
    x = torch.zeros(1, 12, 3, 4, 5, dtype=torch.float64)
    x[0, 0, 0, 0, 0] = 1
    moved = x.roll((1, 1), (2, 3))
    assert not torch.allclose(layer(x).roll((1, 1), (2, 3)), layer(moved))
    codes = positions(x)
    assert len({tuple(row) for row in codes.round(decimals=9).tolist()}) == 60


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_the_segmentation_loss_is_dice_and_cross_entropy_of_a_library(seed: int) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(2, 2, 4, 5, 6, dtype=torch.float64)
    lesions = torch.randint(0, 3, (2, 4, 5, 6))
    truth = (lesions > 0).long()
    entropy = nn.functional.cross_entropy(logits, truth, reduction="none").flatten(1).mean(1)
    ours = segmentation_losses(SegmentationOutput(logits), lesions) - entropy
    library = DiceLoss(squared_pred=True, smooth_nr=10.0, smooth_dr=10.0, reduction="none")
    p = torch.softmax(logits, 1)[:, 1:]
    theirs = library(p, truth[:, None].double()).flatten()
    assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("empty", [False, True])
def test_losses_are_of_each_scan_alone_and_defined_without_a_lesion(empty: bool) -> None:
    torch.manual_seed(0)
    lesions = torch.zeros(3, 8, 9, 7, dtype=torch.int16)
    if not empty:
        lesions[0, 1:3, 2:5, 2:4] = 1
        lesions[1, 5:8, 5:9, 3:7] = 4
    x = torch.randn(3, 1, 8, 9, 7, dtype=torch.float64)
    for model, losses in (
        (LesionSegmentation(UNetConfig(**TINY)).double(), segmentation_losses),
        (LesionDetector(UNetConfig(**TINY)).double(), DetectionLosses()),
    ):
        together = losses(model(x), lesions)
        alone = torch.cat([losses(model(x[i : i + 1]), lesions[i : i + 1]) for i in range(3)])
        assert torch.allclose(together, alone, atol=1e-12)
        assert torch.isfinite(together).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_a_detector_that_says_its_targets_gives_back_the_boxes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.zeros((24, 20, 22), np.int16)
    for number, corner in enumerate(((1, 1, 1), (13, 2, 3), (2, 11, 12)), start=1):
        sides = rng.integers(1, 7, 3)
        numbers[tuple(slice(c, c + s) for c, s in zip(corner, sides, strict=True))] = number
    target = lesion_targets(torch.from_numpy(numbers))
    faces = torch.zeros(1, 6, *numbers.shape)
    x, y, z = target.centres.unbind(1)
    faces[0][:, x, y, z] = target.faces.T
    logits = torch.full((1, 1, *numbers.shape), -9.0)
    logits[0, 0, x, y, z] = torch.tensor([2.0, 3.0, 4.0])
    (found,) = detections(DetectionOutput(logits, faces))
    assert found.scores.tolist() == sorted(found.scores, reverse=True)
    assert len(found.boxes) == 3
    assert np.allclose(np.sort(iou(found.boxes, boxes_of(numbers)).max(0)), 1, atol=1e-5)
    assert target.heat.max() <= 1
    assert (target.heat[x, y, z] > 0.4).all()
