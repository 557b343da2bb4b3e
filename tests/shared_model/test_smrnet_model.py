from __future__ import annotations

import pytest
import torch
from smrnet_fixtures import SHAPE, box_atlas, scans, small_smrnet
from torch import nn

from shared_model.errors import SmrfedError
from shared_model.layers.site_norm import SiteAdaptiveGroupNorm
from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.graph import AtlasGraph
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.slice_attention import attention_volume
from shared_model.smrnet.tokens import PLANES, plane_sizes, slice_brain

LABELS, ADJACENCY = box_atlas()


def test_output_shapes_and_sums() -> None:
    model = small_smrnet(classes=4)
    with torch.no_grad():
        out = model(scans(3))
    regions, sizes = len(ADJACENCY), plane_sizes(LABELS, 2)
    assert out.logits.shape == (3, 4)
    assert out.fusion_regions.shape == (3, regions, 3)
    assert out.fusion_slices.shape == (3, sum(sizes), 3)
    assert out.region_evidence.shape == (3, regions, 4)
    assert out.embedding.shape == (3, 3 * 8 + 4)
    assert tuple(out.slice_attention) == PLANES
    valid = (slice_brain(LABELS, 2) > 0).split(sizes)
    for plane, size, inside in zip(PLANES, sizes, valid, strict=True):
        curve = out.slice_attention[plane]
        assert curve.shape == (3, size)
        assert (curve[:, ~inside] == 0).all()
        torch.testing.assert_close(curve.sum(1), torch.ones(3))
    for shares in (out.fusion_regions, out.fusion_slices, out.region_importance):
        torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:-1]))


def test_logits_decompose_exactly_into_bias_planes_and_regions() -> None:
    model = small_smrnet().double()
    with torch.no_grad():
        nn.init.normal_(model.reasoner.readout.own)
        out = model(scans(2, dtype=torch.float64))
        planes = model.reasoner.head(out.embedding[:, :24])
        regions = (out.region_importance[..., None] * out.region_evidence).sum(1)
    torch.testing.assert_close(out.logits, planes + regions, rtol=1e-12, atol=1e-12)


def test_starts_undecided() -> None:
    model = small_smrnet(trained=False)
    with torch.no_grad():
        raw = [model.raw_tokens(scans(6, seed)) for seed in range(4)]
        model.standardiser.fit(raw)
        out = model(scans(4, 9))
    assert out.logits.abs().max() == 0
    regions = len(ADJACENCY)
    assert (out.region_importance * regions - 1).abs().max() < 0.3
    assert (out.fusion_regions - 1 / 3).abs().max() < 0.2


def test_only_group_normalisation_and_no_state_but_parameters() -> None:
    model = small_smrnet(learned_edge_rank=2)
    assert any(isinstance(m, SiteAdaptiveGroupNorm) for m in model.modules())
    for module in model.modules():
        assert not isinstance(module, nn.modules.batchnorm._NormBase)
        assert not (list(module.parameters(recurse=False)) and list(module.buffers(recurse=False)))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    assert {name.split(".")[0] for name in model.state_dict()} == {
        "encoder",
        "standardiser",
        "reasoner",
    }


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_is_its_patients_one_by_one(training: bool) -> None:
    model = small_smrnet().double().train(training)
    x = scans(3, dtype=torch.float64)
    with torch.no_grad():
        together = model(x)
        for row in range(3):
            alone = model(x[row : row + 1])
            torch.testing.assert_close(alone.logits[0], together.logits[row])
            torch.testing.assert_close(alone.region_evidence[0], together.region_evidence[row])


def test_tokenise_and_reason_are_forward() -> None:
    model, x = small_smrnet(), scans(2)
    with torch.no_grad():
        assert torch.equal(model.reason(model.tokenise(x)).logits, model(x).logits)


@pytest.mark.parametrize("edge_rank", [0, 2])
def test_graph_is_equivariant_under_renumbering_the_regions(edge_rank: int) -> None:
    regions = len(ADJACENCY)
    order = torch.randperm(regions, generator=torch.Generator().manual_seed(5))
    weighted = ADJACENCY * torch.rand(regions, regions).add(0.1)
    weighted = weighted + weighted.T
    torch.manual_seed(0)
    graph = AtlasGraph(weighted, 6, 4, 2, edge_rank)
    renumbered = AtlasGraph(weighted[order][:, order], 6, 4, 2, edge_rank)
    state = graph.state_dict()
    if edge_rank:
        state["learned.factor"] = state["learned.factor"][order]
    renumbered.load_state_dict(state)
    tokens = torch.randn(2, regions, 6)
    torch.testing.assert_close(renumbered(tokens[:, order]), graph(tokens)[:, order])


def test_edges_carry_information_between_neighbours_only() -> None:
    torch.manual_seed(0)
    graph = AtlasGraph(ADJACENCY, 6, 4, 1, 0)
    tokens = torch.randn(1, len(ADJACENCY), 6, requires_grad=True)
    graph(tokens)[0, 0].sum().backward()
    assert tokens.grad is not None
    reached = tokens.grad[0].abs().sum(1) > 0
    expected = ADJACENCY[0] > 0
    expected[0] = True
    assert torch.equal(reached, expected)


@pytest.mark.parametrize("options", [{}, {"learned_edge_rank": 2}, {"site_norm": "local"}])
def test_no_parameter_has_a_gradient_that_is_always_zero(options: dict[str, object]) -> None:
    # Differentially private noise would make such a parameter a random walk.
    model = small_smrnet(**options).double()
    loss = nn.functional.cross_entropy(
        model(scans(2, dtype=torch.float64)).logits, torch.tensor([0, 2])
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("standardiser."):
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, name
        # Relative to rounding in double precision, every single coordinate moves.
        assert (parameter.grad.abs() > 1e-15).float().mean() > 0.99, name


def test_one_millimetre_input_has_the_same_tokens_per_scan() -> None:
    labels = LABELS
    for axis in range(3):
        labels = labels.repeat_interleave(2, axis)
    fine = SMRNet(SMRNetConfig(width=4, stem_stride=2), labels, ADJACENCY)
    with torch.no_grad():
        tokens = fine.tokenise(torch.randn(1, 1, *labels.shape))
    assert tokens.slices.shape[2] == sum(plane_sizes(LABELS, 2))


def test_attention_volume_is_the_outer_product() -> None:
    with torch.no_grad():
        attention = small_smrnet()(scans(1)).slice_attention
    volume = attention_volume(attention)[0]
    expected = attention["sagittal"][0, 6] * attention["coronal"][0, 7] * attention["axial"][0, 8]
    largest = torch.stack([curve[0].max() for curve in attention.values()]).prod()
    torch.testing.assert_close(volume[6, 7, 8], expected / largest)
    assert attention_volume(attention, SHAPE).shape == (1, *SHAPE)


@pytest.mark.parametrize("case", ["gap", "negative", "rectangular"])
def test_atlas_that_does_not_fit_is_refused(case: str) -> None:
    labels, adjacency = LABELS.clone(), ADJACENCY.clone()
    if case == "gap":
        labels[labels == 2] = 0
    elif case == "negative":
        adjacency[0, 1] = -1
    else:
        adjacency = adjacency[:, :-1]
    with pytest.raises(SmrfedError) as caught:
        SMRNet(SMRNetConfig(width=4), labels, adjacency)
    assert caught.value.code == "SMR-E603"
