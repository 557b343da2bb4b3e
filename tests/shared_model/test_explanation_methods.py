"""Explanation methods on small networks whose answer is known."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.atlas.atlas import Atlas
from shared_model.batch import Batch
from shared_model.explanation.faithfulness import faithfulness
from shared_model.explanation.grad_cam import grad_cam, last_spatial_layer
from shared_model.explanation.integrated_gradients import attributions, integrated_gradients
from shared_model.explanation.methods import METHODS, methods_for
from shared_model.explanation.occlusion import region_drops
from shared_model.explanation.randomise import cascade, parts_from_top, shuffled
from shared_model.explanation.region_map import region_evidence, region_means, spread
from shared_model.explanation.region_table import region_table
from shared_model.explanation.relevance import Case, Relevance, contrast, with_volumes
from shared_model.grid import ModelGrid
from shared_model.inputs import InputSizes, input_fields, stand_ins
from shared_model.registry import build_model, model_entry, model_names
from shared_model.smrnet.model import SMRNet

GRID = ModelGrid(spacing_mm=4.0)


@dataclass(frozen=True)
class Logits:
    logits: Tensor


class Toy(nn.Module):
    """Two convolutions, a mean and a linear layer: as small as Grad-CAM can be asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.second = nn.Conv3d(4, 5, 3, stride=2, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Logits:
        h = functional.silu(self.second(functional.silu(self.first(x))))
        return Logits(self.head(h.mean((2, 3, 4))))


class Weighted(nn.Module):
    """Logits that are linear in the volume: every explanation has a closed form."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Logits:
        return Logits(torch.einsum("bdhw,cdhw->bc", x[:, 0], self.weights))


def octants() -> Atlas:
    labels = np.zeros(GRID.shape, np.int16)
    inside = labels[4:-4, 4:-4, 4:-4]
    for axis, value in enumerate((1, 2, 4)):
        upper = [slice(None)] * 3
        upper[axis] = slice(inside.shape[axis] // 2, None)
        inside[tuple(upper)] += value
    inside += 1
    ring = np.roll(np.eye(8, dtype=np.float32), 1, axis=1)
    names = tuple(f"part{n // 2}_{'right' if n % 2 else 'left'}" for n in range(8))
    mirror = tuple(n + 1 if n % 2 == 0 else n - 1 for n in range(8))
    return Atlas("octants", labels, GRID.affine, names, mirror, ring + ring.T)


def case_of(model: nn.Module, target: int = 1, seed: int = 0) -> Case:
    atlas = octants()
    generator = torch.Generator().manual_seed(seed)
    volume = torch.randn(1, 1, *GRID.shape, generator=generator)
    return Case(model.eval(), volume, target, atlas.labels, np.zeros(GRID.shape, np.float32))


def smrnet(seed: int = 3) -> SMRNet:
    atlas = octants()
    model = build_model(
        "smrnet",
        {"width": 4},
        GRID,
        torch.from_numpy(atlas.labels.astype(np.int64)),
        torch.from_numpy(atlas.adjacency.copy()),
        3,
        seed,
    )
    generator = torch.Generator().manual_seed(seed)
    assert isinstance(model, SMRNet)
    with torch.no_grad():
        for name in ("common", "own", "prior"):
            parameter = getattr(model.reasoner.readout, name)
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def test_grad_cam_equals_the_reference_implementation() -> None:
    torch.manual_seed(0)
    model, target = Toy(), 2
    case = case_of(model, target)
    found = grad_cam(case, "second").voxels

    kept: list[Tensor] = []
    handle = model.second.register_forward_hook(lambda _m, _i, out: kept.append(out))
    score = contrast(model(case.volume).logits, target).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    weights = gradient.mean((2, 3, 4), keepdim=True)
    small = functional.relu((weights * kept[0]).sum(1, keepdim=True))
    expected = functional.interpolate(small, size=GRID.shape, mode="trilinear")[0, 0]
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-6)
    assert found.max() > 0
    assert found.min() >= 0


def test_grad_cam_is_not_flipped_and_leaves_no_hook_or_gradient() -> None:
    torch.manual_seed(1)
    model = Toy().requires_grad_(False)
    case = case_of(model, 0)
    before = copy.deepcopy(model.state_dict())
    grad_cam(case)
    assert last_spatial_layer(case) == "second"
    hooks = [m for m in model.modules() if m._forward_hooks or m._backward_hooks]
    assert not hooks
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_network_of_slices_has_no_grad_cam() -> None:
    with pytest.raises(ValueError, match="no layer"):
        grad_cam(case_of(Weighted(torch.zeros(3, *GRID.shape))))


def test_integrated_gradients_are_exact_for_a_linear_model_and_add_up_for_any() -> None:
    torch.manual_seed(2)
    linear = case_of(Weighted(torch.randn(3, *GRID.shape)), 0)
    assert isinstance(linear.model, Weighted)
    weights = contrast(linear.model.weights.movedim(0, -1), 0)
    expected = (weights * linear.volume[0, 0]).detach().numpy()
    np.testing.assert_allclose(attributions(linear, 1).numpy(), expected, rtol=1e-3, atol=1e-4)

    bent = case_of(Toy(), 1)
    start = torch.zeros_like(bent.volume)
    difference = float((bent.score(bent.volume) - bent.score(start)).detach())
    assert float(attributions(bent, 64).sum()) == pytest.approx(difference, rel=1e-2)
    assert all(p.grad is None for p in bent.model.parameters())
    assert integrated_gradients(bent, 2).voxels.min() >= 0


def test_occlusion_of_a_linear_model_is_what_each_region_adds() -> None:
    torch.manual_seed(3)
    case = case_of(Weighted(torch.randn(3, *GRID.shape)), 2)
    assert isinstance(case.model, Weighted)
    parts = contrast(case.model.weights.movedim(0, -1), 2) * case.volume[0, 0]
    expected = [
        float(parts.detach()[torch.from_numpy(case.labels == n)].sum()) for n in range(1, 9)
    ]
    np.testing.assert_allclose(region_drops(case), expected, rtol=1e-2, atol=5e-2)


@pytest.mark.parametrize("planted", range(0, 8, 3))
def test_a_planted_region_ranks_first(planted: int) -> None:
    """Row 14 of the science notes: what a model uses is at the top of the table."""
    atlas = octants()
    weights = torch.zeros(3, *GRID.shape)
    weights[1][torch.from_numpy(atlas.labels == planted + 1)] = 0.1
    case = case_of(Weighted(weights + 0.001 * torch.randn(weights.shape)), 1)
    for method in ("occlusion", "integrated_gradients"):
        table = region_table(METHODS[method].make(case), atlas)
        ranks = {row.name: row.rank for row in table}
        assert ranks[atlas.names[planted]] <= 3, method


def test_region_evidence_is_an_exact_part_of_the_logits() -> None:
    model = smrnet()
    case = case_of(model, 2)
    with torch.no_grad():
        output = model(case.volume)
        planes = model.reasoner.head(output.embedding[:, : 3 * model.reasoner.head.features])
    found = region_evidence(case)
    assert found.regions is not None
    whole = float(contrast(output.logits, 2) - contrast(planes, 2))
    assert float(found.regions.sum()) == pytest.approx(whole, abs=1e-5)
    np.testing.assert_allclose(region_means(found.voxels, case.labels, 8), np.abs(found.regions))
    assert (found.voxels[case.labels == 0] == 0).all()


def test_methods_read_tokens_as_well_as_volumes() -> None:
    model = smrnet()
    case = case_of(model)
    tokens = Case(model, model.tokenise(case.volume), 1, case.labels, case.baseline)
    for name in ("region_evidence", "slice_attention", "region_importance"):
        one, other = (METHODS[name].make(c).voxels for c in (case, tokens))
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_model_without_regions_gets_the_general_methods() -> None:
    assert methods_for(Toy()) == ("occlusion", "integrated_gradients", "grad_cam")
    assert methods_for(smrnet())[0] == "region_evidence"
    with pytest.raises(TypeError):
        region_evidence(case_of(Toy()))


def test_a_map_of_equal_regions_is_equal_everywhere() -> None:
    labels = octants().labels
    assert set(np.unique(spread(np.ones(8), labels))) == {0.0, 1.0}


def test_the_table_counts_overlap_sides_and_shares() -> None:
    atlas = octants()
    values = np.zeros(GRID.shape, np.float32)
    third = atlas.labels == 3
    values[third] = 2
    values[atlas.labels == 4] = 1
    rows = region_table(Relevance("x", values, np.arange(8.0)), atlas)
    top = rows[0]
    assert (top.name, top.rank, top.side, top.pair) == ("part1_left", 1, "left", "part1_right")
    assert top.covered == 1
    assert top.overlap_ml == pytest.approx(third.sum() * 0.064)
    assert (top.mean, top.std, top.max, top.min) == (2, 0, 2, 2)
    assert top.share == pytest.approx(2 / 3)
    assert top.contribution == 2
    assert top.asymmetry == pytest.approx(1 / 3)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert rows[-1].overlap_ml == 0
    assert [row.rank for row in rows] == list(range(1, 9))


def test_shuffling_keeps_every_tensor_s_values_and_the_model() -> None:
    model = smrnet()
    before = copy.deepcopy(model.state_dict())
    parts = parts_from_top(model)
    assert parts[0].startswith("reasoner.")
    assert parts[-1].startswith("encoder.")
    steps = list(cascade(model, parts, 0))
    assert [step.parts for step in steps] == [parts[: n + 1] for n in range(len(parts))]
    last = steps[-1].model.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, last[name])]
    assert changed
    for name, value in before.items():
        assert torch.equal(value.flatten().sort()[0], last[name].flatten().sort()[0])
        assert torch.equal(value, model.state_dict()[name])
    one = shuffled(model, parts[:1], 0).model.state_dict()
    assert all(
        name.startswith(parts[0]) for name in before if not torch.equal(before[name], one[name])
    )


def test_deletion_falls_and_insertion_rises_with_the_right_map() -> None:
    weights = torch.zeros(3, *GRID.shape)
    strong = octants().labels == 5
    weights[1][torch.from_numpy(strong)] = 0.01
    case = case_of(Weighted(weights), 1)
    case.volume.abs_()
    right = faithfulness(case, strong.astype(np.float32))
    wrong = faithfulness(case, (octants().labels == 1).astype(np.float32))
    assert right.deletion < wrong.deletion
    assert right.insertion > wrong.insertion


@dataclass(frozen=True)
class VolumeAndMore(Batch):
    volume: Tensor
    clinical: Tensor


def test_other_inputs_stay_when_the_volume_changes() -> None:
    inputs = VolumeAndMore(torch.zeros(1, 1, 2, 2, 2), torch.tensor([[7.0]]))
    made = with_volumes(inputs, torch.ones(3, 1, 2, 2, 2))
    assert isinstance(made, VolumeAndMore)
    assert made.clinical.shape == (3, 1)
    assert made.volume.sum() == 24


def test_a_contrast_does_not_see_a_common_shift() -> None:
    logits = torch.randn(4, 3)
    torch.testing.assert_close(contrast(logits, 0), contrast(logits + 5, 0))


def classifiers() -> list[str]:
    found = []
    for name in model_names():
        entry = model_entry(name)
        if entry.task == "classification" and "volume" in input_fields(entry.batch):
            found.append(name)
    return found


def has_maps(case: Case) -> bool:
    try:
        return bool(last_spatial_layer(case))
    except ValueError:
        return False


@pytest.mark.parametrize("name", classifiers())
def test_every_classifier_of_scans_can_be_explained(name: str) -> None:
    atlas, entry = octants(), model_entry(name)
    model = build_model(
        name,
        entry.tiny,
        GRID,
        torch.from_numpy(atlas.labels.astype(np.int64)),
        torch.from_numpy(atlas.adjacency.copy()),
        3,
        0,
        clinical=2,
    ).eval()
    sizes = InputSizes(GRID, 8, 2)
    inputs = stand_ins(entry.batch, sizes, 1, torch.Generator().manual_seed(0))
    case = Case(model, inputs, 1, atlas.labels, np.zeros(GRID.shape, np.float32))
    for method in methods_for(model):
        if method == "grad_cam" and not has_maps(case):
            continue
        made = METHODS[method].make
        if method == "integrated_gradients":
            made = partial(integrated_gradients, steps=1)
        found = made(case).voxels
        assert found.shape == GRID.shape
        assert np.isfinite(found).all()
        assert (found >= 0).all()
