"""Parts of SMR-Net that can be switched off: nothing is left that trains in vain."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from smrnet_fixtures import default_dtype, scans, small_smrnet
from torch import nn

from shared_model.registry import default_groups
from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.fusion import FixedFusion
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.slice_attention import SliceAttention, SliceMean

LABELS = torch.tensor([0, 2, 1])
SWITCHES: list[dict[str, Any]] = [
    {"fusion": fusion, "slice_attention": attention, "graph_blocks": blocks}
    for fusion, attention, blocks in product(("adaptive", "mean", "finest"), (True, False), (0, 2))
]


def name_of(switches: dict[str, Any]) -> str:
    return "-".join(str(value) for value in switches.values())


def gradients(model: SMRNet, x: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    nn.functional.cross_entropy(model(x).logits, label, reduction="sum").backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("switches", SWITCHES, ids=name_of)
def test_every_trained_parameter_has_a_gradient_of_its_own_patient(
    switches: dict[str, Any],
) -> None:
    with default_dtype(torch.float64):
        model = small_smrnet(**switches)
    with torch.no_grad():  # away from the start, where some are zero on purpose
        for parameter in model.reasoner.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    shared = default_groups("smrnet").split(n for n, _ in model.named_parameters())["shared"]
    x = scans(3, dtype=torch.float64)
    rows = [gradients(model, x[i : i + 1], LABELS[i : i + 1]) for i in range(3)]
    for name in shared:
        assert any(row[name].abs().sum() > 0 for row in rows), name
    together = gradients(model, x, LABELS)
    for name in shared:
        torch.testing.assert_close(together[name], sum(row[name] for row in rows))


@pytest.mark.parametrize("switches", SWITCHES, ids=name_of)
def test_the_output_keeps_its_shapes(switches: dict[str, Any]) -> None:
    full, less = small_smrnet(), small_smrnet(**switches)
    with torch.no_grad():
        expected, found = full(scans(2)), less(scans(2))
    for part in ("logits", "fusion_regions", "fusion_slices", "region_importance", "embedding"):
        assert getattr(found, part).shape == getattr(expected, part).shape
    for weights in (found.fusion_regions, found.fusion_slices):
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    for plane, attention in found.slice_attention.items():
        assert attention.shape == expected.slice_attention[plane].shape
        torch.testing.assert_close(attention.sum(1), torch.ones(2))


def test_a_switch_takes_its_parameters_away() -> None:
    def names(**switches: Any) -> set[str]:
        return {n for n, _ in small_smrnet(**switches).named_parameters()}

    full = names()
    assert full - names(fusion="mean") == {
        f"reasoner.{part}_fusion.{p}"
        for part in ("region", "slice")
        for p in ("gate", "preference")
    }
    assert all("slice_attention" in n for n in full - names(slice_attention=False))
    assert all("graph.blocks" in n for n in full - names(graph_blocks=0))
    finest = small_smrnet(fusion="finest")
    assert finest.reasoner.region_norm.gamma.shape[0] == 1


def test_the_mean_over_slices_is_attention_without_a_score() -> None:
    model = small_smrnet()
    attention = model.reasoner.slice_attention
    assert isinstance(attention, SliceAttention)
    brain = attention.mask.log_brain.exp()
    mean = SliceMean((16, 20, 16), brain)
    with torch.no_grad():
        attention.score.query.zero_()
        slices = torch.randn(2, 52, 8)
        guide = torch.zeros(2, 52)
        expected, found = attention(slices, guide), mean(slices, torch.randn(2, 52))
    torch.testing.assert_close(found[0], expected[0])
    for plane, weights in expected[1].items():
        torch.testing.assert_close(found[1][plane], weights)


def test_the_mean_of_the_scales_and_the_finest_one() -> None:
    tokens = torch.randn(2, 3, 5, 4)
    mean, weights = FixedFusion(3, 3)(tokens)
    torch.testing.assert_close(mean, tokens.mean(1))
    torch.testing.assert_close(weights, torch.full((2, 5, 3), 1 / 3))
    finest, weights = FixedFusion(3, 1)(tokens[:, :1])
    torch.testing.assert_close(finest, tokens[:, 0])
    torch.testing.assert_close(weights[0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_learnt_edges_need_somebody_who_reads_them() -> None:
    with pytest.raises(ValidationError, match="learned_edge_rank"):
        SMRNetConfig(graph_blocks=0, learned_edge_rank=2)
