from __future__ import annotations

import pytest
import torch
from smrnet_fixtures import box_atlas
from torch import Tensor, nn

from shared_model import registry
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.registry import build_model, default_groups, load_public_weights
from shared_model.smrnet.model import SMRNet

GRID = ModelGrid(spacing_mm=4)
LABELS, ADJACENCY = box_atlas(GRID.shape, margin=6)
MODES = ("off", "shared", "residual", "local")
#: Those that are looked at here; tests/client/test_registered_models.py goes through all.
WIDTH = {"smrnet": 4, "smrnet-published": 16}


def _build(name: str = "smrnet", seed: int = 7, **config: object) -> nn.Module:
    return build_model(name, {"width": WIDTH[name], **config}, GRID, LABELS, ADJACENCY, 3, seed)


@pytest.mark.parametrize("name", WIDTH)
def test_same_seed_same_weights_and_the_global_generator_is_untouched(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = _build(name)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second, other = _build(name), _build(name, seed=8)
    differs = 0
    for (key, a), b, c in zip(
        first.named_parameters(), second.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b), key
        differs += not torch.equal(a, c)
    assert differs > 5


@pytest.mark.parametrize("name", WIDTH)
def test_every_model_maps_a_volume_to_logits(name: str) -> None:
    with torch.no_grad():
        assert _build(name)(torch.randn(1, 1, *GRID.shape)).logits.shape == (1, 3)


@pytest.mark.parametrize("name", WIDTH)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("encoder", ["frozen", "shared"])
def test_groups_partition_every_model_in_every_mode(name: str, mode: str, encoder: str) -> None:
    model = _build(name, site_norm=mode)
    split = default_groups(name, mode, encoder).split(n for n, _ in model.named_parameters())
    assert sum(map(len, split.values())) == len(list(model.parameters()))
    assert split["shared"]
    residual = [
        n for n, _ in model.named_parameters() if n.endswith((".site_scale", ".site_shift"))
    ]
    assert not set(residual) & set(split["shared"])
    assert bool(residual) == (mode == "residual")
    if mode == "off":
        assert not [n for n in split["shared"] if n.endswith((".gamma", ".beta"))]
    if name == "smrnet":
        assert all(n in split["frozen"] for n, _ in model.named_parameters() if "standard" in n)
        assert bool(split["site"]) == (mode in ("residual", "local"))


def test_private_part_is_small_at_a_hundred_regions() -> None:
    labels = torch.zeros(GRID.shape, dtype=torch.long)
    flat = labels.view(-1)
    flat[10_000:90_000] = torch.arange(80_000) % 116 + 1
    for width, limit in ((8, 5_000), (16, 20_000)):
        model = build_model("smrnet", {"width": width}, GRID, labels, torch.ones(116, 116), 3, 0)
        shared = default_groups("smrnet").split(n for n, _ in model.named_parameters())["shared"]
        assert sum(model.get_parameter(n).numel() for n in shared) < limit


def test_one_millimetre_grid_steps_by_two_unless_told_otherwise() -> None:
    grid = ModelGrid(spacing_mm=1)
    labels = torch.zeros(grid.shape, dtype=torch.long)
    labels[80:96, 80:96, 80:96] = 1
    model = build_model("smrnet", {"width": 2}, grid, labels, torch.zeros(1, 1), 2, 0)
    assert isinstance(model, SMRNet)
    assert model.config.stem_stride == 2
    told = build_model(
        "smrnet", {"width": 2, "stem_stride": 1}, grid, labels, torch.zeros(1, 1), 2, 0
    )
    assert isinstance(told, SMRNet)
    assert told.config.stem_stride == 1


@pytest.mark.parametrize(
    ("code", "name", "config", "labels"),
    [
        ("SMR-E601", "smrnett", {}, LABELS),
        ("SMR-E602", "smrnet", {"widht": 4}, LABELS),
        ("SMR-E602", "smrnet", {"width": 5}, LABELS),
        ("SMR-E602", "smrnet-published", {"dropout": 1.0}, LABELS),
        ("SMR-E602", "smrnet-published", {"width": 8}, LABELS),
        ("SMR-E603", "smrnet", {}, LABELS[1:]),
    ],
)
def test_mistakes_are_named(
    code: str, name: str, config: dict[str, object], labels: Tensor
) -> None:
    with pytest.raises(SmrfedError) as caught:
        build_model(name, config, GRID, labels, ADJACENCY, 3, 0)
    assert caught.value.code == code


@pytest.mark.parametrize("width", [2, 6, 10, 18, 22])
def test_every_even_width_divides_into_groups(width: int) -> None:
    with torch.no_grad():
        assert _build(width=width)(torch.randn(1, 1, *GRID.shape)).logits.isfinite().all()


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm3d(2), nn.SyncBatchNorm(2), nn.InstanceNorm1d(2, track_running_stats=True)],
)
def test_batch_statistics_are_refused(layer: nn.Module) -> None:
    with pytest.raises(SmrfedError) as caught:
        registry.refuse_tracked_state("x", nn.Sequential(nn.Linear(2, 2), layer))
    assert caught.value.code == "SMR-E605"
    registry.refuse_tracked_state("x", nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2)))


def test_a_name_is_registered_once() -> None:
    with pytest.raises(SmrfedError) as caught:
        registry.register_model("smrnet", registry.model_entry("smrnet"))
    assert caught.value.code == "SMR-E601"


def test_public_weights_of_a_part_load_without_site_residuals() -> None:
    source, target = _build(seed=1, site_norm="shared"), _build(seed=2, site_norm="residual")
    head = target.get_parameter("reasoner.head.weight").clone()
    weights = {n: p.detach() for n, p in source.named_parameters() if not n.startswith("reasoner.")}
    load_public_weights(target, weights)
    for name, value in weights.items():
        assert torch.equal(target.get_parameter(name), value)
    assert torch.equal(target.get_parameter("reasoner.head.weight"), head)


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "empty"])
def test_public_weights_that_do_not_fit_change_nothing(fault: str) -> None:
    source, target = _build(seed=1), _build(seed=2)
    weights = {n: p.detach().clone() for n, p in source.named_parameters()}
    key = "encoder.stem.conv.weight"
    if fault == "missing":
        del weights[key]
    elif fault == "unknown":
        weights["encoder.extra"] = torch.zeros(1)
    elif fault == "shape":
        weights[key] = weights[key][:1]
    else:
        weights = {}
    before = {n: p.detach().clone() for n, p in target.named_parameters()}
    with pytest.raises(SmrfedError) as caught:
        load_public_weights(target, weights)
    assert caught.value.code == "SMR-E606"
    assert all(torch.equal(before[n], p) for n, p in target.named_parameters())
