"""What only a pair of regions says needs the graph (science.md section 6, row 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_model.smrnet.graph import AtlasGraph
from shared_model.smrnet.readout import RegionReadout

REGIONS, NODES = 4, 8


def _people(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """``(B, R, 2)`` a deviation and a constant; the class is whether two neighbours agree."""
    x = torch.randn(count, REGIONS, 2, generator=torch.Generator().manual_seed(seed))
    x[..., 1] = 1
    return x, (x[:, 1, 0] * x[:, 2, 0] > 0).long()


def _hits(blocks: int, edge: float) -> Tensor:
    """``(B,)`` 1 where a test patient is right, after training the graph and its read-out."""
    edges = torch.zeros(REGIONS, REGIONS)
    edges[1, 2] = edges[2, 1] = edge
    edges[0, 3] = edges[3, 0] = 1.0 - edge
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        graph = AtlasGraph(edges, 2, NODES, blocks, 0)
        readout = RegionReadout(REGIONS, NODES, 8, 2)
    optimiser = torch.optim.Adam([*graph.parameters(), *readout.parameters()], lr=0.03)
    (x, y), (unseen, truth) = _people(500, 1), _people(400, 2)
    for _ in range(250):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(readout(graph(x)).logits, y)
        torch.autograd.backward(loss)
        optimiser.step()
    with torch.no_grad():
        return (readout(graph(unseen)).logits.argmax(1) == truth).double()


def _lower(difference: Tensor) -> float:
    """Lower end of the 95 % interval of a mean over patients."""
    return float(difference.mean() - 1.96 * difference.std() / len(difference) ** 0.5)


def test_a_task_of_region_pairs_needs_the_graph_and_the_right_edge() -> None:
    whole, alone, wrong = _hits(2, 1.0), _hits(0, 1.0), _hits(2, 0.0)
    assert whole.mean() >= 0.9
    assert _lower(whole - alone) > 0
    assert _lower(whole - wrong) > 0
