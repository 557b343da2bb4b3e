"""A local pretrained file becomes public weights: the same function, by name, or a refusal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.resnet import ResNet, ResNetBottleneck
from torch import Tensor, nn
from typer.testing import CliRunner

from shared_model import registry
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.public_weights import load_public_weights
from shared_model.resnet.encoder import ResNetEncoder
from shared_model.vgg.encoder import VGG16
from simulations.cli import app
from simulations.weights.import_file import import_weights

BLOCKS = (1, 2, 1, 1)
OPTIONS = ["width=4", "blocks=[1,2,1,1]"]


def published(dims: int = 2, channels: int = 3) -> nn.Module:
    """A network as its publisher trained it: with the statistics that batches left behind."""
    torch.manual_seed(0)
    net: nn.Module = ResNet(
        ResNetBottleneck, list(BLOCKS), [4, 8, 16, 32], spatial_dims=dims,
        n_input_channels=channels, conv1_t_stride=2, bias_downsample=False, num_classes=10,
    )  # fmt: skip
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.2
    net.eval()
    return net


def saved(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def built(name: str, path: Path, **options: Any) -> nn.Module:
    grid = ModelGrid(spacing_mm=4.0)
    labels = torch.ones(grid.shape, dtype=torch.int64)
    config = {"width": 4, "blocks": BLOCKS, **options}
    model = registry.build_model(name, config, grid, labels, torch.zeros(1, 1), 4, 0)
    arrays = load_public_weights(hashlib.sha256(path.read_bytes()).hexdigest(), (path.parent,))
    registry.load_public_weights(model, {n: torch.from_numpy(v) for n, v in arrays.items()})
    return model.eval()


def features(net: Any, x: Tensor) -> Tensor:
    x = net.maxpool(net.act(net.bn1(net.conv1(x))))
    out: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(x))))
    return out


@pytest.mark.parametrize(
    ("name", "dims", "channels", "prefix"),
    [("resnet50", 2, 3, ""), ("resnet50-3d", 3, 1, "module.")],
)
def test_the_imported_network_is_the_published_one(
    name: str, dims: int, channels: int, prefix: str, tmp_path: Path
) -> None:
    net = published(dims, channels)
    state = {prefix + key: value for key, value in net.state_dict().items()}
    file = saved(tmp_path / "net.pth", {"state_dict": state, "epoch": 3} if prefix else state)
    path, card = import_weights([file], name, OPTIONS, "BSD-3-Clause", "a test", tmp_path / "out")
    assert card.licence == "BSD-3-Clause"
    assert card.files == {"net.pth": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert card.config == {"width": 4, "blocks": list(BLOCKS)}
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == card.sha256
    model = built(name, path)
    assert model.head.out_features == 4  # type: ignore[union-attr]
    x = torch.randn(2, channels, *(64,) * dims)
    with torch.no_grad():
        found, truth = model.encoder(x), features(net, x)  # type: ignore[operator]
    assert float((found - truth).norm()) <= 1e-5 * float(truth.norm())
    assert truth.std() > 0.1


def test_a_trained_stage_with_groups_begins_with_the_published_affine(tmp_path: Path) -> None:
    net = published()
    file = saved(tmp_path / "net.pth", net.state_dict())
    options = [*OPTIONS, "trained_stages=1", "norm=group"]
    path, _ = import_weights([file], "resnet50", options, "x", "y", tmp_path)
    model = built("resnet50", path, trained_stages=1, norm="group")
    own, theirs = dict(model.named_parameters()), dict(net.named_parameters())
    assert torch.equal(own["encoder.layer4.0.bn2.gamma"], theirs["layer4.0.bn2.weight"])
    assert torch.equal(own["encoder.layer4.0.bn2.beta"], theirs["layer4.0.bn2.bias"])


def test_two_files_for_the_fusion(tmp_path: Path) -> None:
    vgg = VGG16(4, classes=10)
    files = [
        saved(tmp_path / "resnet.pth", published().state_dict()),
        saved(tmp_path / "vgg.pth", vgg.state_dict()),
    ]
    options = ["vgg_width=4", "resnet_width=4", "blocks=[1,2,1,1]"]
    path, _ = import_weights(files, "multimodal", options, "x", "y", tmp_path)
    grid = ModelGrid(spacing_mm=4.0)
    labels = torch.ones(grid.shape, dtype=torch.int64)
    config = {"vgg_width": 4, "resnet_width": 4, "blocks": BLOCKS}
    model = registry.build_model(
        "multimodal", config, grid, labels, torch.zeros(1, 1), 3, 0, clinical=4
    )
    arrays = load_public_weights(hashlib.sha256(path.read_bytes()).hexdigest(), (tmp_path,))
    registry.load_public_weights(model, {n: torch.from_numpy(v) for n, v in arrays.items()})
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.vgg16(x), vgg(x))  # type: ignore[operator]
    with pytest.raises(SmrfedError, match=r"missing vgg16\.features"):
        import_weights(files[:1], "multimodal", options, "x", "y", tmp_path)


class Attack:
    """What a hostile file would do when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("was-run"),)


def test_a_pickle_that_needs_code_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path / "net.pth", {"conv1.weight": Attack()})
    with pytest.raises(SmrfedError) as caught:
        import_weights([file], "resnet50", OPTIONS, "x", "y", tmp_path)
    assert caught.value.code == "SMR-E635"
    assert not (tmp_path / "was-run").exists()
    for wrong in ([1, 2], {"conv1.weight": 3}):
        with pytest.raises(SmrfedError, match="SMR-E635"):
            import_weights([saved(file, wrong)], "resnet50", OPTIONS, "x", "y", tmp_path)
    with pytest.raises(SmrfedError, match="SMR-E635"):
        import_weights([tmp_path / "missing.pth"], "resnet50", OPTIONS, "x", "y", tmp_path)


def test_another_network_is_refused_name_by_name(tmp_path: Path) -> None:
    state = published().state_dict()
    changes: list[tuple[dict[str, Tensor], str]] = [
        ({k: v for k, v in state.items() if k != "layer2.0.bn1.running_var"}, "missing layer2.0"),
        ({**state, "layer5.0.conv1.weight": torch.zeros(1)}, "left over layer5"),
        ({**state, "layer1.0.conv2.weight": torch.zeros(4, 4, 5, 5)}, r"\(4, 4, 5, 5\), not"),
    ]
    for number, (changed, said) in enumerate(changes):
        file = saved(tmp_path / f"{number}.pth", changed)
        with pytest.raises(SmrfedError, match=said) as caught:
            import_weights([file], "resnet50", OPTIONS, "x", "y", tmp_path / "out")
        assert caught.value.code == "SMR-E636"
    assert not (tmp_path / "out").exists()
    with pytest.raises(SmrfedError, match="SMR-E637"):
        import_weights([tmp_path / "0.pth"], "smrnet", [], "x", "y", tmp_path)


def test_the_command_prints_what_the_plan_needs(tmp_path: Path) -> None:
    file = saved(tmp_path / "net.pth", published().state_dict())
    arguments = ["weights", "import", str(file), "--model", "resnet50", "--licence", "BSD-3-Clause",
                 "--source", "torchvision", "--out", str(tmp_path / "out")]  # fmt: skip
    for option in OPTIONS:
        arguments += ["--option", option]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (made,) = (tmp_path / "out").glob("*.safetensors")
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    assert f'weights_sha256 = "{digest}"' in result.output


def test_every_backbone_parameter_comes_from_the_file() -> None:
    """The published network has a value for each of ours, so nothing stays random."""
    own = dict(ResNetEncoder(2, 4, BLOCKS).named_parameters())
    theirs = dict(published().named_parameters())
    assert len(own) == len(theirs) - 2  # but for fc
