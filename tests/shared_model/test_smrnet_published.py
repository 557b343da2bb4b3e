from __future__ import annotations

import pytest
import torch
from torch import nn

from shared_model.smrnet.config import PublishedConfig
from shared_model.smrnet.published import INERT, SMRNetPublished, axial_slices


def test_parameter_count_is_the_published_one() -> None:
    model = SMRNetPublished(PublishedConfig())
    branch = sum(p.numel() for p in model.low.parameters())
    assert branch == 4_688_064
    assert sum(p.numel() for p in model.parameters()) == 12_330_628


@pytest.mark.parametrize(("width", "count"), [(32, 3.09e6), (16, 0.774e6)])
def test_narrow_versions_have_the_measured_counts(width: int, count: float) -> None:
    model = SMRNetPublished(PublishedConfig(width=width))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(count, rel=3e-3)


def test_output_from_volume_and_from_slices() -> None:
    torch.manual_seed(0)
    model = SMRNetPublished(PublishedConfig(width=16)).eval()
    volume = torch.randn(2, 1, 22, 26, 44)
    with torch.no_grad():
        out = model(volume)
        same = model.forward_slices(axial_slices(volume))
    assert torch.equal(out.logits, same.logits)
    assert out.logits.shape == (2, 3)
    assert out.slice_graph.shape == (2, 32, 32)
    assert out.gate.shape == (2, 32, 256)
    assert out.embedding.shape == (2, 256)
    torch.testing.assert_close(out.slice_attention.sum(1), torch.ones(2))
    torch.testing.assert_close(out.slice_graph.sum(-1), torch.ones(2, 32))


def test_slices_are_the_ones_the_authors_take() -> None:
    depth = torch.arange(88.0).expand(1, 1, 88, 104, 88)
    slices = axial_slices(depth)
    assert slices.shape == (1, 32, 1, 128, 128)
    expected = torch.linspace(10, 78, 32, dtype=torch.float64).long()
    torch.testing.assert_close(slices[0, :, 0, 64, 64], expected.float())
    rows = torch.arange(88.0).reshape(1, 1, 88, 1, 1).expand(1, 1, 88, 104, 88)
    column = axial_slices(rows)[0, 0, 0, :, 0]
    assert (column.diff() >= 0).all()
    assert column[-1] == 87


def test_inert_biases_are_exactly_those_that_cancel() -> None:
    torch.manual_seed(0)
    model = SMRNetPublished(PublishedConfig(width=16, dropout=0.0)).double()
    x = torch.randn(2, 6, 1, 32, 32, dtype=torch.float64)
    nn.functional.cross_entropy(model.forward_slices(x).logits, torch.tensor([0, 1])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert (float(parameter.grad.norm()) < 1e-12) == (name in INERT), name


def test_the_low_branch_sees_64_pixels_and_the_gate_follows_the_input() -> None:
    """Science.md section 6, rows 1 and 2."""
    torch.manual_seed(0)
    model = SMRNetPublished(PublishedConfig(width=16)).eval()
    seen: dict[str, tuple[int, ...]] = {}
    for name in ("low", "high"):
        branch = model.get_submodule(name)
        branch.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: tuple(inputs[0].shape[-2:])})
        )
    sharp = torch.randn(2, 4, 1, 128, 128)
    blurred = nn.functional.avg_pool2d(sharp.flatten(0, 1), 9, 1, 4).unflatten(0, (2, 4))
    with torch.no_grad():
        gate, of_blurred = model.forward_slices(sharp).gate, model.forward_slices(blurred).gate
    assert seen == {"low": (64, 64), "high": (128, 128)}
    assert ((gate > 0) & (gate < 1)).all()
    assert (gate[0] - gate[1]).abs().max() > 1e-4
    # Two draws of noise differ less than noise and what blurring leaves of it.
    between = (gate[0].mean() - gate[1].mean()).abs()
    assert (gate.mean() - of_blurred.mean()).abs() > 3 * between
