from __future__ import annotations

import pytest
import torch
from smrnet_fixtures import SHAPE, box_atlas, scans, small_smrnet

from shared_model.errors import SmrfedError
from shared_model.smrnet.standardiser import TokenStandardiser
from shared_model.smrnet.tokens import (
    RegionPooling,
    SlicePooling,
    Tokens,
    plane_sizes,
    region_membership,
    slice_brain,
)

LABELS, ADJACENCY = box_atlas()
REGIONS = len(ADJACENCY)


def _coarse(volume: torch.Tensor, stride: int) -> torch.Tensor:
    return torch.nn.functional.avg_pool3d(volume[None, None], stride)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_region_pooling_returns_the_constant_of_each_region(stride: int) -> None:
    constants = torch.randn(REGIONS + 1, generator=torch.Generator().manual_seed(0))
    pooled = RegionPooling(LABELS, REGIONS, stride)(_coarse(constants[LABELS], stride))
    torch.testing.assert_close(pooled[0, :, 0], constants[1:])


def test_membership_is_the_average_pooled_one_hot_on_odd_shapes() -> None:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 5, (7, 9, 10), generator=generator)
    cells, weights = region_membership(labels, 4, stride=4)
    one_hot = torch.nn.functional.one_hot(labels, 5)[..., 1:].permute(3, 0, 1, 2).float()
    padded = torch.nn.functional.pad(one_hot, (0, 2, 0, 3, 0, 1))
    expected = torch.nn.functional.avg_pool3d(padded[None], 4)[0].flatten(1)
    dense = torch.zeros_like(expected)
    dense[:, cells] = weights
    torch.testing.assert_close(dense, expected / expected.sum(1, keepdim=True))
    torch.testing.assert_close(weights.sum(1), torch.ones(4))


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_slice_pooling_of_a_constant_is_the_constant_where_there_is_brain(stride: int) -> None:
    pooled = SlicePooling(LABELS, stride, 2)(_coarse(torch.full(SHAPE, 3.5), stride))[0, :, 0]
    valid = slice_brain(LABELS, 2) > 0
    assert 0 < int(valid.sum()) < len(valid)
    torch.testing.assert_close(pooled[valid], torch.full((int(valid.sum()),), 3.5))
    assert (pooled[~valid] == 0).all()


def test_slice_pooling_keeps_the_planes_apart_and_ignores_the_background() -> None:
    sizes = plane_sizes(LABELS, 2)
    for axis in range(3):
        ramp = torch.arange(SHAPE[axis] // 2, dtype=torch.float32)
        view = [1, 1, 1, 1, 1]
        view[axis + 2] = -1
        x = ramp.reshape(view).expand(1, 1, *(s // 2 for s in SHAPE)).clone()
        x[0, 0][torch.nn.functional.avg_pool3d((LABELS > 0).float()[None], 2)[0] == 0] = 1e4
        part = SlicePooling(LABELS, 2, 2)(x)[0, :, 0].split(sizes)[axis]
        inside = (slice_brain(LABELS, 2) > 0).split(sizes)[axis]
        torch.testing.assert_close(part[inside], ramp[inside])


def test_coarse_slices_are_interpolated_linearly() -> None:
    coarse = torch.arange(SHAPE[2] // 4, dtype=torch.float32).expand(1, 1, 8, 10, 8)
    axial = SlicePooling(LABELS, 4, 2)(coarse)[0, :, 0].split(plane_sizes(LABELS, 2))[2]
    # Fine slice 7 lies a quarter of a coarse slice beyond coarse slice 3's centre.
    assert axial[7].item() == pytest.approx(3.25)
    assert axial[6].item() == pytest.approx(2.75)


def test_tokens_have_the_promised_shapes_and_join() -> None:
    model = small_smrnet()
    with torch.no_grad():
        tokens = model.tokenise(scans(2))
    slices = sum(plane_sizes(LABELS, 2))
    assert tokens.regions.shape == (2, 3, REGIONS, 8)
    assert tokens.slices.shape == (2, 3, slices, 8)
    joined = Tokens.cat([tokens[0:1], tokens[1:2]])
    assert torch.equal(joined.regions, tokens.regions)
    assert len(joined) == 2


def test_standardiser_centres_and_scales_the_reference_and_nothing_else() -> None:
    model = small_smrnet()
    with torch.no_grad():
        raw = [model.raw_tokens(scans(3, seed)) for seed in range(4)]
        identity = model.standardiser(raw[0])
        assert torch.equal(identity.regions, raw[0].regions)
        model.standardiser.fit(raw)
        fitted = model.standardiser(Tokens.cat(raw))
    assert fitted.regions.mean(0).abs().max() < 1e-3
    assert (fitted.regions.std(0) <= 1 + 1e-3).all()
    assert fitted.regions.std(0).median() == pytest.approx(1, abs=1e-3)
    empty = slice_brain(LABELS, 2) == 0
    assert (fitted.slices[:, :, empty] == 0).all()
    assert not any(p.requires_grad for p in model.standardiser.parameters())


def test_standardiser_refuses_a_single_scan() -> None:
    tokens = Tokens(torch.zeros(1, 3, 2, 4), torch.zeros(1, 3, 5, 4))
    with pytest.raises(SmrfedError) as caught:
        TokenStandardiser(3, 2, 5, 4).fit([tokens])
    assert caught.value.code == "SMR-E604"
