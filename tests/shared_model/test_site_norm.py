from __future__ import annotations

import pytest
import torch
from smrnet_fixtures import scans, small_smrnet
from torch import nn

from shared_model.layers.site_norm import (
    SiteAdaptiveGroupNorm,
    fixed_parameter_patterns,
    site_parameter_patterns,
    zero_site_residual,
)


@pytest.mark.parametrize("shape", [(3, 8), (3, 8, 5), (2, 8, 4, 3), (2, 8, 3, 4, 5)])
def test_layer_is_the_equation(shape: tuple[int, ...]) -> None:
    norm = SiteAdaptiveGroupNorm(8, groups=2)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    grouped = x.reshape(shape[0], 2, -1)
    hat = (grouped - grouped.mean(2, keepdim=True)) / (
        grouped.var(2, unbiased=False, keepdim=True) + norm.eps
    ).sqrt()
    column = (1, 8, *[1] * (len(shape) - 2))
    expected = (norm.gamma + norm.site_scale).reshape(column) * hat.reshape(shape)
    expected = expected + (norm.beta + norm.site_shift).reshape(column)
    torch.testing.assert_close(norm(x), expected)


def test_zero_residual_is_the_shared_layer() -> None:
    residual, shared = small_smrnet(site_norm="residual"), small_smrnet(site_norm="shared")
    shared.load_state_dict(
        {k: v for k, v in residual.state_dict().items() if "site_" not in k}, strict=True
    )
    x = scans(2)
    assert torch.equal(residual(x).logits, shared(x).logits)
    sites = [
        p for n, p in residual.named_parameters() if n.endswith((".site_scale", ".site_shift"))
    ]
    with torch.no_grad():
        for parameter in sites:
            parameter.normal_(std=0.3)
    assert not torch.allclose(residual(x).logits, shared(x).logits)
    zero_site_residual(residual)
    assert torch.equal(residual(x).logits, shared(x).logits)


def test_patterns_name_the_parameters_of_each_mode() -> None:
    assert site_parameter_patterns("off") == site_parameter_patterns("shared") == ()
    assert site_parameter_patterns("residual", "reasoner.*") == (
        "reasoner.*.site_scale",
        "reasoner.*.site_shift",
    )
    assert site_parameter_patterns("local") == ("*.gamma", "*.beta")
    assert fixed_parameter_patterns("off") == ("*.gamma", "*.beta")
    assert fixed_parameter_patterns("residual") == ()
    names = dict(SiteAdaptiveGroupNorm(4, 1, "local").named_parameters())
    assert set(names) == {"gamma", "beta"}


def test_channels_last_input_without_gradient_trains() -> None:
    # torch 2.13 crashes here when group_norm sees the channels-last view itself.
    norm = SiteAdaptiveGroupNorm(16, groups=1)
    tokens = torch.randn(1, 3, 20, 16).movedim(-1, 1)
    norm(tokens).square().sum().backward()
    assert norm.gamma.grad is not None
    assert norm.gamma.grad.abs().sum() > 0


def test_a_placed_embedding_is_scaled_and_shifted_exactly_and_zero_is_neither() -> None:
    """What layer B estimates on embeddings comes out of them exactly: they are affine in it."""
    model, plain = small_smrnet(embedding_scale=True), small_smrnet()
    plain.load_state_dict(
        {k: v for k, v in model.state_dict().items() if "embedding_shift.site_scale" not in k}
    )
    x = scans(3)
    before = model(x)
    assert torch.equal(before.logits, plain(x).logits)
    place = model.reasoner.embedding_shift
    assert place.site_scale is not None
    assert place.site_shift is not None
    with torch.no_grad():
        place.site_scale.uniform_(-0.4, 0.4)
        place.site_shift.normal_()
    after = model(x)
    expected = (1 + place.site_scale) * before.embedding + place.site_shift
    torch.testing.assert_close(after.embedding, expected)
    # Who says it stays; what is said follows the embedding, and still adds up.
    torch.testing.assert_close(after.region_importance, before.region_importance)
    zero_site_residual(model)
    assert torch.equal(model(x).logits, before.logits)
