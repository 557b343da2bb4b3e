"""SMR-Net with region volumes: the decomposition stays exact, and each way in is used."""

from __future__ import annotations

import pytest
import torch
from smrnet_fixtures import box_atlas, scans, small_smrnet

from shared_model.smrnet.volumes import (
    ScanWithVolumes,
    SMRNetVolumes,
    SMRNetVolumesConfig,
    SMRNetVolumesOutput,
)

LABELS, ADJACENCY = box_atlas()
REGIONS = len(ADJACENCY)


def network(clinical: int = 3, **options: object) -> SMRNetVolumes:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = SMRNetVolumesConfig.model_validate(
            {"width": 4, "attention_features": 4, **options}
        )
        model = SMRNetVolumes(config, LABELS, ADJACENCY, clinical)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("reasoner."):
                    parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def batch(count: int = 3, clinical: int = 3) -> ScanWithVolumes:
    generator = torch.Generator().manual_seed(1)
    return ScanWithVolumes(
        scans(count),
        torch.randn(count, REGIONS, generator=generator),
        torch.randn(count, clinical, generator=generator),
    )


def read(model: SMRNetVolumes, x: ScanWithVolumes) -> SMRNetVolumesOutput:
    with torch.no_grad():
        return model(x)


def test_the_parts_add_up_to_the_logits() -> None:
    model, x = network(), batch()
    out = read(model, x)
    planes = out.embedding[:, : 3 * model.reasoner.head.features]
    with torch.no_grad():
        said = model.reasoner.head(planes)
    said = said + (out.region_importance[..., None] * out.region_evidence).sum(1)
    torch.testing.assert_close(out.logits, said + out.clinical_evidence.sum(1))
    assert out.clinical_evidence.shape == (3, 3, 3)


@pytest.mark.parametrize(("nodes", "evidence"), [(True, False), (False, True)])
def test_each_way_in_is_enough_for_a_volume_to_matter(nodes: bool, evidence: bool) -> None:
    model, x = network(volume_nodes=nodes, volume_evidence=evidence), batch()
    names = {n for n, _ in model.named_parameters() if n.startswith("reasoner.volume_")}
    assert len(names) == 1
    moved = ScanWithVolumes(x.volume, x.region_volumes + 1, x.clinical)
    assert (read(model, moved).logits - read(model, x).logits).abs().min() > 1e-6


def test_without_both_and_without_clinical_data_it_is_smrnet() -> None:
    model = network(clinical=0, volume_nodes=False, volume_evidence=False)
    plain = small_smrnet(trained=False)
    plain.load_state_dict(model.state_dict())
    x = batch(clinical=0)
    with torch.no_grad():
        expected = plain.eval()(x.volume)
    torch.testing.assert_close(read(model, x).logits, expected.logits)


def test_it_adds_few_parameters() -> None:
    more = sum(p.numel() for p in network().parameters())
    less = sum(p.numel() for p in small_smrnet().parameters())
    config = network().config
    assert more - less == config.node_features + REGIONS * config.classes + 3 * config.classes


def test_volumes_alone_can_be_learnt() -> None:
    """The class is one region's volume: the late weights find that region."""
    model = network(clinical=0)
    with torch.no_grad():
        tokens = model.tokenise(batch(1, clinical=0))
    z = torch.randn(120, REGIONS, generator=torch.Generator().manual_seed(2))
    y = (z[:, 5] > 0).long()
    many = type(tokens)(
        tokens.regions.expand(120, *tokens.regions.shape[1:]),
        tokens.slices.expand(120, *tokens.slices.shape[1:]),
        z,
        torch.zeros(120, 0),
    )
    parameters = [p for n, p in model.named_parameters() if n.startswith("reasoner.")]
    optimiser = torch.optim.SGD(parameters, lr=0.3)
    for _ in range(80):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model.reason(many).logits, y)
        torch.autograd.backward(loss)
        optimiser.step()
    with torch.no_grad():
        found = model.reason(many)
    assert (found.logits.argmax(1) == y).double().mean() >= 0.95
    assert int(found.region_importance.mean(0).argmax()) == 5
