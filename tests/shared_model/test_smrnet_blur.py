"""The fusion of scales learns to leave the finest one where a scan is blurred."""

from __future__ import annotations

import pytest
import torch
from smrnet_fixtures import SHAPE, box_atlas, small_smrnet, train_reasoner
from torch import Tensor, nn

from shared_model.smrnet.model import SMRNet

BRAIN = (box_atlas()[0] > 0).float()
#: A pattern as fine as the voxels: blurring removes it.
FINE = 2.0 * (torch.stack(torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij")).sum(0) % 2) - 1


def _blurred(x: Tensor) -> Tensor:
    return nn.functional.avg_pool3d(x, 5, stride=1, padding=2, count_include_pad=False)


def _sharp(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The class moves the fine pattern clearly, and the mean brightness, which varies, a little."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.randn(count, 1, *SHAPE, generator=generator)
    y = torch.randint(0, 2, (count,), generator=generator)
    sign = (2.0 * y - 1)[:, None, None, None, None]
    brightness = 0.7 * torch.randn(count, 1, 1, 1, 1, generator=generator)
    return x + (1 + 0.6 * sign) * FINE + 0.5 * sign + brightness, y


def _weight_of_the_finest(model: SMRNet, x: Tensor) -> float:
    with torch.no_grad():
        out = model.reason(model.tokenise(x * BRAIN))
    return float(out.fusion_regions[..., 0].mean())


def _less_for_blurred(seed: int) -> tuple[float, float]:
    """By how much the finest scale weighs less in blurred scans: before and after training."""
    # Four random channels do not see so fine a pattern from every start: half the starts move.
    model = small_smrnet(seed, trained=False, classes=2, width=16)
    x, y = _sharp(60, 10 * seed + 1)
    x = torch.cat([x[:30], _blurred(x[30:])]) * BRAIN
    with torch.no_grad():
        model.standardiser.fit([model.raw_tokens(x)])
        tokens = model.tokenise(x)
    unseen, _ = _sharp(30, 10 * seed + 2)
    of_blurred = _blurred(unseen)
    before = _weight_of_the_finest(model, unseen) - _weight_of_the_finest(model, of_blurred)
    train_reasoner(model, tokens, y, steps=80)
    return before, _weight_of_the_finest(model, unseen) - _weight_of_the_finest(model, of_blurred)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_after_training_a_blurred_scan_gets_less_of_the_finest_scale(seed: int) -> None:
    before, after = _less_for_blurred(seed)
    assert abs(before) < 0.05
    assert after > 0.1
