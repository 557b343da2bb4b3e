"""ConneX: shapes, one mask for all, attention, permutation, heads, missing modalities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from shared_model.connex.config import ConnexConfig
from shared_model.connex.coupling import regional_coupling
from shared_model.connex.graphs import Connectomes, Graphs
from shared_model.connex.modality_dropout import ModalityDropout
from shared_model.connex.model import Connex
from shared_model.connex.output import joint_losses
from shared_model.grid import ModelGrid
from shared_model.inputs import InputSizes, stand_ins

R = 6
TINY = {"width": 4, "mixer_tokens": 3, "mixer_channels": 5}


def model_of(**options: Any) -> Connex:
    torch.manual_seed(3)
    model = Connex(ConnexConfig(**{**TINY, **options}), R).double()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def people(count: int = 4, seed: int = 0) -> Connectomes:
    generator = torch.Generator().manual_seed(seed)
    made = stand_ins(Connectomes, InputSizes(ModelGrid(spacing_mm=4.0), R), count, generator)
    assert isinstance(made, Connectomes)
    return made.to(torch.float64)


def test_output_shapes_and_what_attention_and_mask_are() -> None:
    output = model_of()(people())
    assert output.logits.shape == (4, 2)
    assert output.structural_logits is not None
    assert output.attention is not None
    assert output.attention.shape == (4, 2, R, R)
    torch.testing.assert_close(output.attention.sum(-1), torch.ones(4, 2, R).double())
    assert output.mask is not None
    assert output.mask.shape == (2, R, R)
    torch.testing.assert_close(output.mask, output.mask.transpose(1, 2))
    assert not output.mask.diagonal(dim1=1, dim2=2).any()
    assert output.embedding.shape == (4, 4)
    assert output.importance.shape == (4, R)


def test_contributions_of_nodes_average_to_the_logits() -> None:
    for fusion in ("cross", "unified"):
        model = model_of(fusion=fusion)
        output = model(people())
        bias = model.network.heads["unified"].bias
        torch.testing.assert_close(output.contributions.mean(1) + bias, output.logits)


def test_the_mask_is_the_same_whoever_the_patients_are() -> None:
    model = model_of()
    first, second = model(people(seed=0)), model(people(2, seed=1))
    assert torch.equal(first.mask, second.mask)


def test_an_edge_off_the_mask_is_not_seen() -> None:
    model = model_of(fusion="cross")
    mask = model.network.mask
    assert mask is not None
    edge = int(mask.position[1, 4])
    with torch.no_grad():
        mask.logits[:, edge] = -1e4
    tokens = model.tokenise(people())
    before = model.reason(tokens).logits
    profiles, edges = tokens.profiles.clone(), tokens.edges.clone()
    profiles[:, :, [1, 4], [4, 1]] += 3
    edges[:, :, [1, 4], [4, 1]] += 3
    after = model.reason(replace(tokens, profiles=profiles, edges=edges)).logits
    assert torch.equal(before, after)


def permuted(tokens: Graphs, order: Tensor) -> Graphs:
    return Graphs(
        tokens.profiles[:, :, order][..., order],
        tokens.edges[:, :, order][..., order],
        tokens.present,
    )


@settings(max_examples=10)
@given(st.permutations(range(R)))
def test_attention_forgets_the_order_of_nodes_and_the_mixer_knows_it(order: list[int]) -> None:
    tokens, index = model_of().tokenise(people()), torch.tensor(order)
    # With features that do not name the other nodes, all but the mixer is equivariant.
    same = replace(tokens, profiles=tokens.profiles.mean((2, 3), keepdim=True).expand(-1, -1, R, R))
    for mixer in (False, True):
        model = model_of(mask=False, mixer=mixer)
        before, after = model.reason(same), model.reason(permuted(same, index))
        close = torch.allclose(before.logits, after.logits, atol=1e-12)
        assert close == (not mixer or order == list(range(R)))
        if not mixer:
            there = after.attention
            assert before.attention is not None
            assert there is not None
            torch.testing.assert_close(before.attention[:, :, index][..., index], there)


def test_a_patient_s_row_depends_on_that_patient_alone() -> None:
    model, both, labels = model_of(), people(3), torch.tensor([0, 1, 0])
    together = joint_losses(model(both), labels)
    for i in range(3):
        alone = joint_losses(model(both[i : i + 1]), labels[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": False},
        {"mixer": False},
        {"fusion": "unified"},
        {"fusion": "late"},
        {"loss_structural": 0.0, "loss_functional": 0.0},
        {"site_norm": "shared", "layers": 2},
    ],
)
def test_no_parameter_has_an_identically_zero_gradient(options: dict[str, Any]) -> None:
    model = model_of(**options)
    joint_losses(model(people()), torch.tensor([0, 1, 1, 0])).sum().backward()
    for name, parameter in model.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().amax() > 1e-10, name
    mask = model.network.mask
    if mask is not None:
        assert mask.logits.grad is not None
        assert (mask.logits.grad != 0).all()


def test_lambda_zero_is_the_single_head() -> None:
    labels, x = torch.tensor([0, 1, 1, 0]), people()
    joint, single = model_of(), model_of(loss_structural=0.0, loss_functional=0.0)
    values = joint.state_dict()
    single.load_state_dict({name: values[name] for name in single.state_dict()})
    output, alone = joint(x), single(x)
    assert alone.structural_logits is None
    assert alone.functional_logits is None
    torch.testing.assert_close(output.logits, alone.logits)
    without = replace(output, head_weights=torch.zeros_like(output.head_weights))
    torch.testing.assert_close(joint_losses(without, labels), joint_losses(alone, labels))
    assert (joint_losses(output, labels) > joint_losses(alone, labels)).all()


def test_what_is_missing_plays_no_part() -> None:
    x, labels = people(), torch.tensor([0, 1, 1, 0])
    gone = replace(x, has_functional=torch.zeros(4).double())
    other = replace(gone, functional=torch.zeros_like(x.functional))
    for options in ({}, {"fusion": "unified"}, {"fusion": "late"}):
        model = model_of(**options)
        assert torch.equal(model(gone).logits, model(other).logits)
        assert not torch.equal(model(gone).logits, model(x).logits)
        model.zero_grad()
        joint_losses(model(gone), labels).sum().backward()
        for name, parameter in model.network.named_parameters():
            if name.startswith(("backbones.functional", "heads.functional", "mixers.functional")):
                assert parameter.grad is None or not parameter.grad.any(), name


def test_modality_dropout_draws_for_each_patient_and_never_takes_both() -> None:
    dropout = ModalityDropout(0.4)
    flags = torch.ones(4000, 2)
    flags[:1000, 0] = 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = dropout(flags)
        torch.manual_seed(0)
        assert torch.equal(first, dropout(flags))
    assert torch.equal(first[:1000], flags[:1000])
    assert (first.sum(1) >= 1).all()
    left_out = (first[1000:] == 0).float().mean(0)
    torch.testing.assert_close(left_out, torch.tensor([0.2, 0.2]), atol=0.03, rtol=0)
    assert torch.equal(dropout.eval()(flags), flags)


@given(st.floats(0.1, 50.0))
@settings(max_examples=10)
def test_the_scale_of_a_scanner_does_not_matter_without_the_logarithm(scale: float) -> None:
    model, x = model_of(structural="as_is"), people()
    scaled = replace(x, structural=scale * x.structural)
    torch.testing.assert_close(model(scaled).logits, model(x).logits, rtol=1e-4, atol=1e-4)


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="go together"):
        ConnexConfig(regions=4)
    with pytest.raises(ValidationError, match="late"):
        ConnexConfig(fusion="late", loss_structural=0.0)


def test_coupling_is_one_for_equal_profiles_and_none_for_a_region_without_edges() -> None:
    random = np.random.default_rng(0)
    matrix = np.exp(random.normal(size=(8, 8)))
    matrix = matrix + matrix.T
    matrix[3] = matrix[:, 3] = 0
    coupling = regional_coupling(matrix, np.log1p(matrix))
    assert np.isnan(coupling[3])
    np.testing.assert_allclose(np.delete(coupling, 3), 1.0)
    assert abs(np.nanmean(regional_coupling(matrix, random.normal(size=(8, 8))))) < 0.5
