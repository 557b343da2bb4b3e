"""ResNet50 and VGG16: published sizes and names, and a pretrained norm that no patient changes."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets.resnet import resnet50
from torch import Tensor, nn

from shared_model.fusion.config import MultimodalConfig
from shared_model.fusion.model import FusionTokens, Multimodal, VolumeAndClinical
from shared_model.resnet.config import ResNet50Config, ResNet503DConfig
from shared_model.resnet.encoder import FrozenAffine, ResNetEncoder
from shared_model.resnet.key_slices import KeySlices, key_positions
from shared_model.resnet.model import slice_resnet, volume_resnet
from shared_model.vgg.encoder import VGG16

SHAPE = (22, 26, 22)


def brain() -> Tensor:
    labels = torch.zeros(SHAPE, dtype=torch.int64)
    labels[3:-3, 4:-4, 2:-2] = 1
    return labels


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_published_parameter_counts() -> None:
    assert numbers(ResNetEncoder(2)) + numbers(nn.Linear(2048, 1000)) == 25_557_032
    assert numbers(VGG16(classes=1000)) == 138_357_544
    assert numbers(VGG16()) == 14_714_688
    theirs = resnet50(
        spatial_dims=3, n_input_channels=1, conv1_t_stride=2, bias_downsample=False,
        feed_forward=False,
    )  # fmt: skip
    assert numbers(ResNetEncoder(3, channels=1)) == numbers(theirs) == 46_155_072


def test_the_names_are_those_of_torchvision() -> None:
    own = {name for name, _ in ResNetEncoder(2).named_parameters()}
    theirs = {name for name, _ in resnet50(spatial_dims=2, n_input_channels=3, num_classes=1000,
              conv1_t_stride=2, bias_downsample=False).named_parameters()}  # fmt: skip
    renamed = {
        name.replace("scale", "weight").replace("offset", "bias")
        for name in own
    }  # fmt: skip
    assert renamed == {name for name in theirs if not name.startswith("fc.")}
    assert {name.split(".")[1] for name, _ in VGG16().named_parameters()} == {
        *map(str, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
    }


@pytest.mark.parametrize("dims", [2, 3])
def test_no_batch_normalisation_is_left(dims: int) -> None:
    encoder = ResNetEncoder(dims, 4, (1, 1, 1, 1), trained_stages=2, norm="group")
    assert not [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    affine = {n for n, m in encoder.named_modules() if isinstance(m, FrozenAffine)}
    assert "bn1" in affine
    assert not any(name.startswith(("layer3", "layer4")) for name in affine)
    x = torch.randn(2, 3, *(32,) * dims)
    assert torch.equal(encoder.top(encoder.bottom(x)), encoder(x))
    assert encoder(x).shape[:2] == (2, 128)


def test_the_same_view_alone_and_in_a_batch() -> None:
    encoder = ResNetEncoder(2, 4, (1, 1, 1, 1)).double().train()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    assert torch.allclose(encoder(x)[1:2], encoder(x[1:2]), rtol=1e-12)


def test_key_slices_are_those_of_the_brain() -> None:
    labels = brain()
    rows = key_positions(labels, 2, 5).tolist()
    assert rows == sorted(set(rows))
    assert rows[0] >= 4
    assert rows[-1] < SHAPE[2] - 4
    views = KeySlices(labels, ("axial", "sagittal"), 3, "neighbours", 32)
    x = torch.full((2, 1, *SHAPE), -4.0)
    position = key_positions(labels, 2, 3)
    x[0, 0, :, :, position[1]] = 4.0
    pictures = views(x)
    assert pictures.shape == (2, 6, 3, 32, 32)
    bright = pictures[0].amax((2, 3)) > 2
    assert bright[1].tolist() == [False, True, False]  # the slice itself, between its neighbours
    assert not bright[[0, 2]].any()
    # Black is ImageNet's black, in the padding as well.
    assert pictures[1, 0, 0].amax() == pytest.approx(-0.485 / 0.229, rel=1e-5)


@pytest.mark.parametrize("stages", [0, 1, 4])
@pytest.mark.parametrize("norm", ["affine", "group"])
def test_tokens_and_what_lies_above_them_are_the_model(stages: int, norm: str) -> None:
    small = {"width": 4, "blocks": (1, 1, 1, 1), "trained_stages": stages, "norm": norm}
    flat = slice_resnet(
        ResNet50Config.model_validate({**small, "slices": 2, "image_size": 32}), brain()
    )
    deep = volume_resnet(ResNet503DConfig.model_validate(small))
    x = torch.randn(2, 1, *SHAPE)
    for model, views in ((flat, 6), (deep, 1)):
        model.eval()
        output = model(x)
        assert output.logits.shape == (2, 3)
        assert output.slice_attention.shape == (2, views)
        assert output.slice_attention.sum(1).detach() == pytest.approx(1)
        tokens = model.tokenise(x)
        # Nothing below the cut is among what the cut says lies above.
        below = {
            name for name, _ in model.named_parameters() if not name.startswith(model.above_tokens)
        }
        torch.autograd.backward(model.reason(tokens.detach()).logits.sum())
        assert not {n for n, p in model.named_parameters() if p.grad is not None} & below


def fusion(clinical: int, **options: object) -> Multimodal:
    config = {
        "vgg_width": 2, "resnet_width": 2, "blocks": (1, 1, 1, 1), "slices": 2, "image_size": 32,
    }  # fmt: skip
    parsed = MultimodalConfig.model_validate({**config, "dropout": 0.0, **options})
    return Multimodal(parsed, brain(), clinical)


def test_the_published_widths_are_joined() -> None:
    with torch.device("meta"):
        config = MultimodalConfig(clinical_features=24)
        widths = VGG16(config.vgg_width).size, ResNetEncoder(2, config.resnet_width).features
    assert widths == (512, 2048)
    model = fusion(7, clinical_features=24)
    assert model.widths == {"vgg16": 16, "resnet50": 64, "clinical": 24}
    assert model.head.in_features == 16 + 64 + 24


@pytest.mark.parametrize("backbones", [(), ("vgg16",), ("resnet50",), ("vgg16", "resnet50")])
@pytest.mark.parametrize("clinical", [0, 5])
def test_every_subset_of_branches(backbones: tuple[str, ...], clinical: int) -> None:
    if not backbones and not clinical:
        with pytest.raises(Exception, match="SMR-E634"):
            fusion(0, backbones=())
        return
    model = fusion(clinical, backbones=backbones)
    x = VolumeAndClinical(torch.randn(3, 1, *SHAPE), torch.randn(3, clinical))
    output = model(x)
    assert output.logits.shape == (3, 3)
    assert output.contributions.shape == (3, len(backbones) + (clinical > 0), 3)
    split = model.head.bias + output.contributions.sum(1)
    assert torch.allclose(output.logits, split, atol=1e-5)
    tokens = model.tokenise(x)
    assert isinstance(tokens, FusionTokens)
    assert torch.equal(model.reason(tokens).logits, output.logits)
    assert len(tokens[:2].vgg16) == 2


def test_no_branch_drowns_another() -> None:
    model = fusion(5)
    x = VolumeAndClinical(5 + 9 * torch.randn(4, 1, *SHAPE), torch.randn(4, 5))
    parts = torch.split(model(x).embedding, list(model.widths.values()), 1)
    for part in parts:
        assert part.norm(dim=1).max() <= model.config.clinical_features**0.5 * 1.01
