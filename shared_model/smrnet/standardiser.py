"""Normative standardisation: how far a token lies from a public reference population."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared_model.errors import SmrfedError
from shared_model.smrnet.tokens import Tokens

# A token that hardly varies in the reference must not blow rounding up to a finding.
_SD_FLOOR = 0.05

_SLICE_SIZE = 0.5


class TokenStandardiser(nn.Module):
    """``(token - mean) / sd`` per scale, token and feature.

    Mean and sd are frozen parameters (they travel with the public weights) and start as identity.
    They may be fitted on PUBLIC data only: an un-noised statistic of patients that steers a release
    would void the privacy guarantee.
    """

    def __init__(self, scales: int, regions: int, slices: int, features: int) -> None:
        super().__init__()

        def frozen(value: float, tokens: int) -> nn.Parameter:
            return nn.Parameter(torch.full((scales, tokens, features), value), requires_grad=False)

        self.region_mean = frozen(0.0, regions)
        self.region_sd = frozen(1.0, regions)
        self.slice_mean = frozen(0.0, slices)
        self.slice_sd = frozen(1.0, slices)

    def forward(self, tokens: Tokens) -> Tokens:
        """Standardise; shapes as in :class:`Tokens`."""
        return Tokens(
            (tokens.regions - self.region_mean) / self.region_sd,
            (tokens.slices - self.slice_mean) / self.slice_sd,
        )

    @torch.no_grad()
    def fit(self, reference: Sequence[Tokens]) -> None:
        """Set mean and sd from raw tokens of public scans; raises SMR-E604 below two scans."""
        count = sum(len(part) for part in reference)
        if count < 2:
            raise _too_few(count)
        joined = Tokens.cat(reference).to(torch.float64)
        _fit(joined.regions, self.region_mean, self.region_sd)
        _fit(joined.slices, self.slice_mean, self.slice_sd)


class NormativeReadout(nn.Module):
    """Public linear read-out of every token: K quantities as deviations from a public population.

    ``(token - mean) @ readout`` per scale and token, ``(B, S, N, F)`` to ``(B, S, N, K)``. Fitted
    by ridge regression on PUBLIC subjects of whom the quantities are known (volume of the region,
    its share of CSF and grey matter), it gives each scale's own estimate of the same quantity: the
    fusion then weighs resolutions against each other, and the private part stays small. Frozen,
    like :class:`TokenStandardiser`; before :meth:`fit` it passes the first K features on.
    """

    def __init__(self, scales: int, regions: int, slices: int, features: int, outputs: int) -> None:
        super().__init__()

        def parameters(tokens: int) -> tuple[nn.Parameter, nn.Parameter]:
            first = torch.eye(features, outputs).expand(scales, tokens, -1, -1).clone()
            mean = torch.zeros(scales, tokens, features)
            return nn.Parameter(mean, requires_grad=False), nn.Parameter(first, requires_grad=False)

        self.region_mean, self.region_readout = parameters(regions)
        self.slice_mean, self.slice_readout = parameters(slices)

    def forward(self, tokens: Tokens) -> Tokens:
        """Read out; the K quantities replace the F features."""
        return Tokens(
            _read(tokens.regions, self.region_mean, self.region_readout),
            _read(tokens.slices, self.slice_mean, self.slice_readout),
        )

    @torch.no_grad()
    def fit(self, reference: Tokens, regions: Tensor, slices: Tensor, ridge: float) -> None:
        """Fit to raw tokens of N public scans and their true ``(N, R, K)`` and ``(N, L, K)``.

        ``ridge`` is the penalty in units of standardised features. Targets are z-scored over the
        scans; each quantity is scaled to a root mean square of 1 over all regions and 0.5 over all
        slices, so that estimates keep their relative reliability. Raises SMR-E604 below two scans.
        """
        if len(reference) < 2:
            raise _too_few(len(reference))
        _fit_ridge(reference.regions, regions, self.region_mean, self.region_readout, ridge)
        _fit_ridge(reference.slices, slices, self.slice_mean, self.slice_readout, ridge)
        # The mean over a slice says less than a region does, so it speaks more softly.
        self.slice_readout.mul_(_SLICE_SIZE)


def _read(tokens: Tensor, mean: Tensor, readout: Tensor) -> Tensor:
    return torch.einsum("bsnf,snfk->bsnk", tokens - mean, readout)


def _fit_ridge(
    values: Tensor, truth: Tensor, mean: nn.Parameter, readout: nn.Parameter, ridge: float
) -> None:
    """``values`` ``(N, S, T, F)``, ``truth`` ``(N, T, K)``."""
    x, y = values.double(), truth.double()
    y = y - y.mean(0)
    y = y / torch.where(y.std(0) > 0, y.std(0), 1.0)
    centre, spread = x.mean(0), x.std(0)
    # Slices without brain are the same for everybody: they read out as zero.
    varies = (spread > 1e-8).double()
    scale = varies / spread.clamp(min=1e-8)
    z = (x - centre) * scale
    gram = torch.einsum("nstf,nstg->stfg", z, z)
    gram = gram + ridge * torch.eye(gram.shape[-1], dtype=gram.dtype)
    weights = torch.linalg.solve(gram, torch.einsum("nstf,ntk->stfk", z, y))
    predicted = torch.einsum("nstf,stfk->nstk", z, weights)
    size = predicted.square().mean((0, 1, 2)).sqrt().clamp(min=1e-12)
    mean.copy_(centre)
    readout.copy_(weights * scale[..., None] / size)


def _too_few(count: int) -> SmrfedError:
    return SmrfedError(
        "SMR-E604",
        "the token standardiser needs a reference population",
        expected="raw tokens of at least two public scans",
        found=f"{count} scans",
        remedy="pass the tokens of the public cohort, or keep the identity",
    )


def _fit(values: Tensor, mean: nn.Parameter, sd: nn.Parameter) -> None:
    spread = values.std(0)
    varying = spread[spread > 0]
    floor = _SD_FLOOR * varying.median() if len(varying) else spread.new_tensor(1.0)
    mean.copy_(values.mean(0))
    # Slices without brain are zero for everybody: identity keeps them zero.
    sd.copy_(torch.where(spread > 0, spread.clamp(min=floor), torch.ones_like(spread)))
