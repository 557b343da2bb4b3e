"""Shuffled weights: every scan meets its own shuffle, and chance is measured beside likeness."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch

from shared_model.explanation.region_map import spread
from shared_model.explanation.relevance import Case
from shared_model.grid import ModelGrid
from shared_model.registry import build_model
from shared_model.smrnet.model import SMRNet
from simulations.explanation_study.sanity import ALL, Pairs, shuffle_weights

GRID = ModelGrid(spacing_mm=4.0)
REGIONS = 12


def labels() -> np.ndarray:
    out = np.zeros(GRID.shape, np.int16)
    for number, part in enumerate(np.array_split(np.arange(4, GRID.shape[1] - 4), REGIONS)):
        out[4:-4, part[0] : part[-1] + 1, 4:-4] = number + 1
    return out


def case() -> Case:
    chain = torch.diag(torch.ones(REGIONS - 1), 1)
    found = torch.from_numpy(labels().astype(np.int64))
    model = build_model("smrnet", {"width": 4}, GRID, found, chain + chain.T, 3, 3)
    assert isinstance(model, SMRNet)
    with torch.no_grad():
        for name in ("common", "own", "prior"):
            parameter = getattr(model.reasoner.readout, name)
            parameter.copy_(0.2 * torch.randn(parameter.shape))
    volume = torch.randn(1, 1, *GRID.shape)
    return Case(model.eval(), volume, 1, labels(), np.zeros(GRID.shape, np.float32))


def compare(method: str, cases: list[Case], *, stepwise: bool) -> dict[tuple[str, str], Pairs]:
    kept: dict[tuple[str, str], Pairs] = defaultdict(Pairs)
    shuffle_weights(
        cases,
        method,
        cases[0].labels > 0,
        5,
        stepwise=stepwise,
        pairs=lambda kind, what: kept[kind, what],
    )
    return kept


def test_the_same_scan_twice_meets_two_shuffles() -> None:
    one = case()
    found = compare("region_evidence", [one, one, one], stepwise=False)
    assert list(found) == [("cascade", ALL)]
    values = found["cascade", ALL].found
    assert len({value.spearman for value in values}) == 3
    again = compare("region_evidence", [one, one, one], stepwise=False)
    assert again["cascade", ALL].found == values


def test_steps_are_kept_apart_and_the_last_has_its_chance() -> None:
    found = compare("region_importance", [case()], stepwise=True)
    kinds = [kind for kind, _ in found]
    assert kinds.count("cascade") == kinds.count("independent") > 3
    assert all(len(pairs.found) == 1 for pairs in found.values())
    measured = [key for key, pairs in found.items() if pairs.elsewhere]
    assert measured == [("cascade", ALL)]
    # What is not read cannot change the map: region importance does not see slices.
    alone = found["independent", "reasoner.slice_attention"].sameness("slices")
    assert (alone.spearman.low, alone.ssim.low) == pytest.approx((1, 1))


def test_a_map_that_varies_within_regions_has_no_chance_to_compare_with() -> None:
    assert not compare("slice_attention", [case()], stepwise=False)["cascade", ALL].elsewhere


def test_sparse_maps_on_other_regions_are_alike_to_ssim_and_the_chance_says_so() -> None:
    brain = labels() > 0
    first, second = np.full(REGIONS, 0.001), np.full(REGIONS, 0.001)
    first[1] = second[8] = 1
    pairs = Pairs()
    maps = [spread(values, labels()) for values in (first, second)]
    for draw in range(20):
        pairs.add(maps[0], maps[1], brain)
        pairs.add_elsewhere(maps[0], maps[1], case_without_model(), draw)
    found = pairs.sameness("sparse")
    assert found.ssim.value > 0.4
    assert found.elsewhere == pytest.approx(found.ssim.value, abs=0.15)
    assert found.spearman.value < 0.1
    # One map that is even by accident is no chance of the method.
    pairs.add(maps[0], maps[1], brain)
    assert pairs.sameness("sparse").elsewhere is None


def case_without_model() -> Case:
    nothing = torch.zeros(1, 1, *GRID.shape)
    return Case(torch.nn.Identity(), nothing, 0, labels(), np.zeros(GRID.shape, np.float32))
