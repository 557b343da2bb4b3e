"""The public read-out is a plain ridge regression per token; the site affine has no statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from smrnet_fixtures import scans, small_smrnet
from torch import nn

from shared_model.errors import SmrfedError
from shared_model.layers.site_norm import (
    SiteAdaptiveAffine,
    SiteNorm,
    fold_site_residual,
    zero_site_residual,
)
from shared_model.smrnet.standardiser import NormativeReadout
from shared_model.smrnet.tokens import Tokens

N, S, R, L, F, K = 20, 2, 3, 5, 4, 2
RIDGE = 3.0


def drawn(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def reference(seed: int = 0) -> tuple[Tokens, torch.Tensor, torch.Tensor]:
    """Tokens with their own mean and scale everywhere, and truth that depends on them."""
    regions = drawn(N, S, R, F, seed=seed) * (1 + drawn(S, R, F, seed=seed + 1).abs()) + 5
    slices = drawn(N, S, L, F, seed=seed + 2) - 2
    region_truth = regions[:, 0, :, :K] * 7 + drawn(N, R, K, seed=seed + 3)
    slice_truth = slices[:, 1, :, :K] + 0.5 * drawn(N, L, K, seed=seed + 4) + 100
    return Tokens(regions, slices), region_truth, slice_truth


def fitted(tokens: Tokens, regions: torch.Tensor, slices: torch.Tensor) -> NormativeReadout:
    readout = NormativeReadout(S, R, L, F, K)
    readout.fit(tokens, regions, slices, RIDGE)
    return readout


def ridge_by_hand(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """``(N, S, T, K)`` fitted values, each quantity at unit root mean square."""
    out = np.empty((*values.shape[:3], truth.shape[2]))
    for scale in range(values.shape[1]):
        for token in range(values.shape[2]):
            x, y = values[:, scale, token], truth[:, token]
            z = (x - x.mean(0)) / x.std(0, ddof=1)
            target = (y - y.mean(0)) / y.std(0, ddof=1)
            # Ridge as least squares with extra rows: another way than the normal equations.
            rows = np.concatenate([z, np.sqrt(RIDGE) * np.eye(z.shape[1])])
            wanted = np.concatenate([target, np.zeros((z.shape[1], target.shape[1]))])
            out[:, scale, token] = z @ np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return np.asarray(out / np.sqrt((out**2).mean((0, 1, 2))))


def test_the_fit_is_an_independent_ridge_regression_per_scale_and_token() -> None:
    tokens, regions, slices = reference()
    with torch.no_grad():
        found = fitted(tokens, regions, slices)(tokens)
    for part, truth, values in (
        (found.regions, regions, tokens.regions),
        (found.slices, slices, tokens.slices),
    ):
        expected = ridge_by_hand(values.double().numpy(), truth.double().numpy())
        # How loud regions and slices speak is a choice; it is one factor for all of them.
        size = part.square().mean((0, 1, 2)).sqrt().numpy()
        assert size == pytest.approx(float(size[0]), rel=1e-4)
        np.testing.assert_allclose(part.numpy() / size, expected, atol=5e-4)
    assert found.regions.square().mean().sqrt().item() == pytest.approx(1, rel=1e-4)


def test_a_patient_is_read_alone_and_relative_to_the_reference() -> None:
    readout = fitted(*reference())
    patients, _, _ = reference(seed=50)
    with torch.no_grad():
        together = readout(patients)
        alone = Tokens.cat([readout(patients[[row]]) for row in range(N)])
        centre = readout(Tokens(readout.region_mean[None], readout.slice_mean[None]))
    torch.testing.assert_close(together.regions, alone.regions)
    torch.testing.assert_close(together.slices, alone.slices)
    assert not centre.regions.any()
    assert not centre.slices.any()


def test_tokens_that_never_vary_in_public_read_as_zero_for_everybody() -> None:
    tokens, regions, slices = reference()
    tokens.slices[:, :, 2] = 0
    tokens.regions[:, 1, 0] = 0.25
    readout = fitted(tokens, regions, slices)
    patients, _, _ = reference(seed=50)
    with torch.no_grad():
        found = readout(patients)
    assert (found.slices[:, :, 2] == 0).all()
    assert (found.regions[:, 1, 0] == 0).all()
    assert found.regions[:, 0, 0].abs().min() > 0
    assert found.slices.isfinite().all()


def test_a_quantity_that_is_the_same_for_all_reads_as_zero() -> None:
    tokens, regions, slices = reference()
    regions[..., 1] = 4
    with torch.no_grad():
        found = fitted(tokens, regions, slices)(tokens)
    assert not found.regions[..., 1].any()
    assert found.regions[..., 0].square().mean().item() == pytest.approx(1, rel=1e-4)


def test_before_the_fit_the_first_features_pass() -> None:
    tokens, _, _ = reference()
    found = NormativeReadout(S, R, L, F, K)(tokens)
    assert torch.equal(found.regions, tokens.regions[..., :K])
    assert torch.equal(found.slices, tokens.slices[..., :K])


def test_the_fit_needs_two_scans_and_leaves_nothing_to_train() -> None:
    tokens, regions, slices = reference()
    readout = NormativeReadout(S, R, L, F, K)
    with pytest.raises(SmrfedError) as caught:
        readout.fit(tokens[:1], regions[:1], slices[:1], RIDGE)
    assert caught.value.code == "SMR-E604"
    readout.fit(tokens, regions, slices, RIDGE)
    assert not any(parameter.requires_grad for parameter in readout.parameters())


def test_the_network_reasons_on_the_quantities() -> None:
    model = small_smrnet(normative_features=2)
    with torch.no_grad():
        tokens = model.tokenise(scans(2))
        assert tokens.regions.shape[-1] == tokens.slices.shape[-1] == 2
        assert model.reason(tokens).logits.shape == (2, 3)


# ---- the site affine -----------------------------------------------------------------------------


def drawn_affine(mode: SiteNorm = "residual") -> SiteAdaptiveAffine:
    affine = SiteAdaptiveAffine(S, F, mode)
    with torch.no_grad():
        for number, parameter in enumerate(affine.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=number))
    return affine


def test_the_affine_is_the_equation_per_scale_and_feature() -> None:
    affine, x = drawn_affine(), reference()[0].regions
    assert affine.site_scale is not None
    assert affine.site_shift is not None
    expected = x.clone()
    for scale in range(S):
        for feature in range(F):
            at = (scale, 0, feature)
            expected[:, scale, :, feature] *= affine.gamma[at] + affine.site_scale[at]
            expected[:, scale, :, feature] += affine.beta[at] + affine.site_shift[at]
    torch.testing.assert_close(affine(x), expected)


def test_an_affine_with_zero_residual_is_the_shared_one() -> None:
    residual, shared = drawn_affine(), SiteAdaptiveAffine(S, F, "shared")
    shared.load_state_dict(
        {name: value for name, value in residual.state_dict().items() if "site_" not in name}
    )
    x = reference()[0].regions
    assert not torch.allclose(residual(x), shared(x))
    zero_site_residual(residual)
    assert torch.equal(residual(x), shared(x))


def test_the_affine_starts_as_identity_and_treats_every_patient_alone() -> None:
    x = reference()[0].regions
    assert torch.equal(SiteAdaptiveAffine(S, F)(x), x)
    affine = drawn_affine()
    changed = x.clone()
    changed[1:] = 1e3
    assert torch.equal(affine(x)[:1], affine(changed)[:1])
    assert torch.equal(affine(x)[:1], affine(x[:1]))


def test_folding_the_residuals_keeps_the_function_and_zeroes_them() -> None:
    model, x = small_smrnet(site_norm="residual"), scans(2)
    residuals = [p for n, p in model.named_parameters() if ".site_" in n]
    with torch.no_grad():
        for parameter in residuals:
            nn.init.normal_(parameter, std=0.2)
        before = model.tokenise(x)
        fold_site_residual(model)
        after = model.tokenise(x)
    torch.testing.assert_close(after.regions, before.regions)
    torch.testing.assert_close(after.slices, before.slices)
    assert not any(parameter.any() for parameter in residuals)
    with torch.no_grad():
        fold_site_residual(model)
    assert torch.equal(model.tokenise(x).regions, after.regions)
