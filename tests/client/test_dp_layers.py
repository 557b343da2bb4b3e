"""Per-patient norms and clipped sums of every layer type against the micro-batch truth, float64."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dp_engine_fixture import engine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_site import GRID, FixedRandom, small_atlas
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.nn import (
    DenseGATConv,
    DenseGCNConv,
    DenseGINConv,
    DenseGraphConv,
    DenseSAGEConv,
)

from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import LoopGradients, MappedGradients, PatientGradients
from client.training.patient_optimizer import CLIPPING_MARGIN
from shared_model.layers.site_norm import SiteAdaptiveGroupNorm
from shared_model.registry import build_model
from shared_model.smrnet.attention import GatedScore
from shared_model.smrnet.encoder import ConvNorm
from shared_model.smrnet.graph import SharedGraphConv

EACH = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Classifier(nn.Module):
    """A layer under test between two linear maps, as part of a model that returns logits."""

    def __init__(self, layer: Callable[[Tensor], Tensor], example: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(layer(example).flatten(1).shape[1], 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(torch.tanh(self.layer(x).flatten(1))))


def people(x: Tensor) -> list[PatientExamples]:
    """Scans to patients of one, two and three scans."""
    out, start = [], 0
    for number, count in enumerate((2, 1, 3)):
        part = x[start : start + count]
        out.append(PatientExamples(str(number), part, (torch.arange(count) + number) % 3))
        start += count
    return out


def truth(model: nn.Module, parameters: list[nn.Parameter], person: PatientExamples) -> Tensor:
    """The mean over the scans of one backward each."""
    rows = []
    for scan, label in zip(person.inputs, person.labels, strict=True):  # type: ignore[arg-type]
        loss = cross_entropy(model(scan[None]).logits, label[None])
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        rows.append(
            torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).reshape(-1)
                    for g, p in zip(grads, parameters, strict=True)
                ]
            )
        )
    return torch.stack(rows).mean(0)


def hold_against_the_truth(model: nn.Module, x: Tensor, *, mapped: bool = True) -> None:
    """Norms and clipped sums, to 1e-9, by the loop and, where torch can map it, by vmap."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    parameters = [p for p in model.parameters() if p.requires_grad]
    patients = people(x)
    rows = torch.stack([truth(model, parameters, person) for person in patients])
    norms = rows.norm(dim=1)
    clip = float(norms.median())  # some are clipped and some are not
    factors = (clip * (1 - CLIPPING_MARGIN) / (norms + 1e-6)).clamp(max=1)
    expected = factors @ rows
    flat = FlatParameters(parameters)
    ways: list[PatientGradients] = [LoopGradients(model, flat)]
    if mapped:
        ways.append(MappedGradients(model, names, len(flat.gradient), scans=4))
    for way in ways:
        found = torch.cat([part.double().clone() for part in way(patients)])
        assert (found.norm(dim=1) - norms).abs().max() <= 1e-9 * norms.max()
        assert (found - rows).norm() <= 1e-9 * rows.norm()
        private = engine(flat, way, FixedRandom(), clip=clip)
        assert (private.clipped_sum(patients) - expected).norm() <= 1e-9 * expected.norm()
    flat.close()


def seeded(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def check(seed: int, make: Callable[[], Any], *shape: int, mapped: bool = True) -> None:
    """Build a layer with seeded weights and hold it against the truth on six scans."""
    x = seeded(seed, 6, *shape)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layer = make().double()
        model = Classifier(layer, x[:1])
    hold_against_the_truth(model, x, mapped=mapped)


@EACH
@given(data=st.data(), seed=st.integers(0, 2**31))
def test_convolutions(data: st.DataObject, seed: int) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 2]))
    kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    padding = draw(st.integers(0, 2))
    check(
        seed,
        lambda: nn.Conv3d(
            2 * groups,
            2 * groups,
            kernel,
            stride=draw(st.integers(1, 3)),
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=draw(st.booleans()),
        ),
        2 * groups,
        *(draw(st.integers(5, 7)) for _ in range(3)),
    )


@EACH
@given(
    seed=st.integers(0, 2**31),
    stride=st.integers(1, 2),
    standardise=st.booleans(),
    mode=st.sampled_from(["off", "shared", "residual"]),
    depth=st.integers(4, 7),
)
def test_the_encoders_blocks_with_and_without_weight_standardisation(
    seed: int, stride: int, standardise: bool, mode: Any, depth: int
) -> None:
    check(seed, lambda: ConvNorm(2, 8, stride, mode, standardise), 2, depth, 5, 6)


@EACH
@given(seed=st.integers(0, 2**31), groups=st.sampled_from([1, 2, 4]), own=st.booleans())
def test_group_norms(seed: int, groups: int, own: bool) -> None:
    kind = SiteAdaptiveGroupNorm if own else None
    check(
        seed,
        lambda: kind(4, groups, "residual") if kind else nn.GroupNorm(groups, 4),
        4, 3, 4, 5,
    )  # fmt: skip


@EACH
@given(seed=st.integers(0, 2**31), bias=st.booleans(), features=st.integers(1, 6))
def test_linear_layers(seed: int, bias: bool, features: int) -> None:
    check(seed, lambda: nn.Linear(5, features, bias=bias), 4, 5)


class Lookup(nn.Module):
    """An embedding of what a scan says, with rows that repeat and rows that nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.table((x * 2).round().clamp(-3, 3).long() + 3)


@EACH
@given(seed=st.integers(0, 2**31))
def test_lookups(seed: int) -> None:
    check(seed, Lookup, 5)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.score = GatedScore(4, 3, queries=2)

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = self.attention(x, x, x)
        return self.score(mixed).softmax(1).transpose(1, 2) @ mixed


@EACH
@given(seed=st.integers(0, 2**31))
def test_attention(seed: int) -> None:
    check(seed, SelfAttention, 5, 4)


EDGES = (torch.ones(5, 5) - torch.eye(5)).double() * torch.arange(1.0, 6).double() / 5
GRAPHS: dict[str, Callable[[], nn.Module]] = {
    "gcn": lambda: DenseGCNConv(4, 3),
    "shared gcn": lambda: SharedGraphConv(4, 3, bias=False),
    "graph": lambda: DenseGraphConv(4, 3),
    "sage": lambda: DenseSAGEConv(4, 3),
    "gin": lambda: DenseGINConv(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), train_eps=True),
    "gat": lambda: DenseGATConv(4, 3, heads=2, concat=False),
}


class OnGraph(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv = GRAPHS[kind]()
        self.learnt = nn.Parameter(torch.zeros(5, 5)) if kind == "graph" else None

    def forward(self, x: Tensor) -> Tensor:
        edges = EDGES if self.learnt is None else EDGES + nn.functional.softplus(self.learnt)
        out: Tensor = self.conv(x, edges)
        return out


@pytest.mark.parametrize("kind", GRAPHS)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_dense_graph_convolutions(kind: str, seed: int) -> None:
    check(seed, lambda: OnGraph(kind), 5, 4)


class Reused(nn.Module):
    """One layer called twice, and one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        return self.second(torch.tanh(self.first(h)))


@EACH
@given(seed=st.integers(0, 2**31))
def test_layers_and_weights_that_are_used_twice(seed: int) -> None:
    check(seed, Reused, 3, 4)


def registered(name: str, **config: object) -> nn.Module:
    """A registered model in float64, moved away from a start that would hide its layers."""
    atlas = small_atlas()
    model = build_model(
        name,
        config,
        GRID,
        torch.from_numpy(atlas.labels.astype("int64")),
        torch.from_numpy(atlas.adjacency.copy()),
        3,
        0,
    ).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            step = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.05 * step)
    return model


class FewSlices(nn.Module):
    """The published network on four small slices: all its layers, at a hundredth of the cost."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> object:
        return self.model.forward_slices(x)  # type: ignore[operator]


def test_the_published_network() -> None:
    model = FewSlices(registered("smrnet-published", width=16, dropout=0.0))
    hold_against_the_truth(model, seeded(0, 6, 4, 1, 32, 32))


@pytest.mark.parametrize("standardise", [False, True])
def test_smrnet_with_its_other_switches(standardise: bool) -> None:
    model = registered(
        "smrnet",
        width=4,
        weight_standardisation=standardise,
        learned_edge_rank=2,
        normative_features=3,
        site_norm="off",
    )
    hold_against_the_truth(model, seeded(1, 6, 1, *GRID.shape))


def test_a_wrong_engine_would_be_noticed() -> None:
    """The mutant: patients whose scans are summed, not averaged."""
    x = seeded(0, 6, 4, 5)
    model = Classifier(nn.Linear(5, 2).double(), x[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PatientExamples, "chunks", lambda self: iter([(self.inputs[:1], self.labels[:1])])
        )
        with pytest.raises(AssertionError):
            hold_against_the_truth(model, x)
