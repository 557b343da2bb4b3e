from __future__ import annotations

import torch
from scipy.stats import binom
from smrnet_fixtures import SHAPE, box_atlas, small_smrnet, train_reasoner
from torch import Tensor, nn

from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.output import SMRNetOutput

LABELS, _ = box_atlas()


def _cohort(count: int, seed: int, where: Tensor | None) -> tuple[Tensor, Tensor]:
    """Smooth noise inside the brain; the class moves the intensity at ``where``."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, *(s // 4 for s in SHAPE), generator=generator)
    x = nn.functional.interpolate(coarse, size=SHAPE, mode="trilinear")
    x = x + 0.5 * torch.randn(count, 1, *SHAPE, generator=generator)
    y = torch.randint(0, 2, (count,), generator=generator)
    if where is not None:
        x = x + (2.0 * y - 1)[:, None, None, None, None] * where
    return x * (LABELS > 0), y


def _fit(where: Tensor) -> tuple[float, SMRNetOutput]:
    """Frozen random encoder, public standardisation, plain SGD on the reasoner."""
    model: SMRNet = small_smrnet(trained=False, classes=2)
    with torch.no_grad():
        model.standardiser.fit([model.raw_tokens(_cohort(40, 100, None)[0])])
        train, y = _cohort(50, 1, where)
        test, truth = _cohort(50, 2, where)
        tokens, unseen = model.tokenise(train), model.tokenise(test)
    train_reasoner(model, tokens, y, steps=60)
    with torch.no_grad():
        out = model.reason(unseen)
    return float((out.logits.argmax(1) == truth).float().mean()), out


def test_a_planted_region_is_learnt_and_named() -> None:
    for region in (3, 8):
        accuracy, out = _fit(LABELS.eq(region).float())
        assert accuracy >= 0.9
        assert int(out.region_importance.mean(0).argmax()) + 1 == region


def test_a_planted_slice_is_found_by_the_attention_of_its_plane() -> None:
    where = torch.zeros(SHAPE)
    where[:, 22:24] = 1.0
    accuracy, out = _fit(where)
    assert accuracy >= 0.9
    found = out.slice_attention["coronal"].argmax(1)
    assert ((found - 11).abs() <= 2).float().mean() >= 0.9


def test_a_trivial_set_is_solved_and_random_labels_are_not() -> None:
    """Science.md section 6, row 5: no leak from labels, and nothing that keeps it from learning."""
    accuracy, _ = _fit(2.0 * LABELS.gt(0).float())
    assert accuracy >= 0.98
    right = round(50 * _fit(torch.zeros(SHAPE))[0])
    # The interval that 50 fair coins fall into 99.9 times in 100.
    assert binom(50, 0.5).ppf(5e-4) <= right <= binom(50, 0.5).ppf(1 - 5e-4)
