"""Layer A: normalisation with a federated affine and a residual that stays at the site."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

SiteNorm = Literal["off", "shared", "residual", "local"]


class SiteAffine(nn.Module):
    """The affine of layer A: ``(gamma + a_k, beta + b_k)``, common part plus the site's residual.

    ``gamma`` and ``beta`` are the affine that all sites know; ``site_scale`` (a_k) and
    ``site_shift`` (b_k) exist in mode ``residual`` only, start at zero and never leave the site, so
    a site that was not in the federation runs at zero by construction (science.md 3.2). The modes
    differ in which parameters exist and in the group that :func:`site_parameter_patterns` and
    :func:`fixed_parameter_patterns` put them in:

    * ``off``: gamma and beta keep their public values.
    * ``shared``: gamma and beta are federated.
    * ``residual``: as ``shared``, plus the local residual.
    * ``local``: gamma and beta never leave the site (FedBN with group statistics).

    A residual that is fitted without noise must not be trained between rounds: removing one patient
    would then change every other patient's clipped gradient, and the guarantee would be void.
    """

    site_scale: nn.Parameter | None
    site_shift: nn.Parameter | None

    def __init__(self, shape: tuple[int, ...], mode: SiteNorm) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        for name in ("site_scale", "site_shift"):
            residual = nn.Parameter(torch.zeros(shape)) if mode == "residual" else None
            self.register_parameter(name, residual)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift at this site."""
        if self.site_scale is None or self.site_shift is None:
            return self.gamma, self.beta
        return self.gamma + self.site_scale, self.beta + self.site_shift


class SiteAdaptiveGroupNorm(SiteAffine):
    """``(gamma + a_k) * x_hat + (beta + b_k)``, with statistics of one patient only.

    Input and output ``(B, C, *)`` of any rank; parameters and modes as in :class:`SiteAffine`.
    """

    def __init__(
        self, channels: int, groups: int, mode: SiteNorm = "residual", eps: float = 1e-5
    ) -> None:
        super().__init__((channels,), mode)
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, *)`` per patient and group of channels."""
        scale, shift = self.affine()
        # Flat and contiguous: torch 2.13 crashes in the channels-last backward of group_norm when
        # the input itself needs no gradient, as cached tokens do.
        flat = x.reshape(x.shape[0], x.shape[1], -1).contiguous()
        return functional.group_norm(flat, self.groups, scale, shift, self.eps).reshape(x.shape)


class SiteAdaptiveAffine(SiteAffine):
    """Layer A on tokens that are standardised already: ``(gamma + a_k) * x + (beta + b_k)``.

    Tokens say how far a region lies from a public reference; a norm over the patient's own tokens
    would remove just that. So this layer has no statistics: it is the site's recalibration of the
    deviations, one affine per scale and feature. Input and output ``(B, S, N, F)``.
    """

    def __init__(self, scales: int, features: int, mode: SiteNorm = "residual") -> None:
        super().__init__((scales, 1, features), mode)

    def forward(self, x: Tensor) -> Tensor:
        """Recalibrate ``(B, S, N, F)`` tokens."""
        scale, shift = self.affine()
        return x * scale + shift


class SiteShift(nn.Module):
    """The site's own place of an embedding: ``(1 + a_k) z + b_k``; a residual and nothing else.

    In mode ``residual`` ``site_shift`` (b_k) and, with ``scaled``, ``site_scale`` (a_k) start at
    zero and never leave the site; in the other modes the layer has no parameter and does nothing.
    What a scanner adds to all its scans comes out exactly as far as it is known (layer B,
    science.md 3.3).
    """

    site_shift: nn.Parameter | None
    site_scale: nn.Parameter | None

    def __init__(self, features: int, mode: SiteNorm, *, scaled: bool = False) -> None:
        super().__init__()
        for name, present in (("site_shift", True), ("site_scale", scaled)):
            own = nn.Parameter(torch.zeros(features)) if present and mode == "residual" else None
            self.register_parameter(name, own)

    def place(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Coordinates ``start`` to ``stop`` of embeddings, ``(B, n)``, or ``(B, R, n)`` of parts.

        Parameters may be ``(B, E)``, where scans have their own.
        """
        parts = []
        for own in (self.site_scale, self.site_shift):
            part = None if own is None else own[..., start:stop]
            parts.append(part[..., None, :] if part is not None and x.dim() == 3 else part)
        scale, shift = parts
        if scale is not None:
            x = x * (1 + scale)
        return x if shift is None else x + shift


def site_parameter_patterns(mode: SiteNorm, scope: str = "*") -> tuple[str, ...]:
    """Name patterns of the ``site`` group for a mode, below one name prefix such as ``reasoner.*``.

    Empty for ``off`` and ``shared``: nothing then stays at the site.
    """
    if mode == "residual":
        return f"{scope}.site_scale", f"{scope}.site_shift"
    if mode == "local":
        return f"{scope}.gamma", f"{scope}.beta"
    return ()


def fixed_parameter_patterns(mode: SiteNorm, scope: str = "*") -> tuple[str, ...]:
    """Name patterns of the affine parameters that mode ``off`` keeps at their public values."""
    return (f"{scope}.gamma", f"{scope}.beta") if mode == "off" else ()


@torch.no_grad()
def zero_site_residual(model: nn.Module) -> None:
    """Set every residual of the model to zero: the state in which an unseen site runs."""
    for module in model.modules():
        if isinstance(module, SiteAffine | SiteShift):
            for parameter in (module.site_scale, module.site_shift):
                if parameter is not None:
                    parameter.zero_()


@torch.no_grad()
def fold_site_residual(model: nn.Module) -> None:
    """Add every residual to the affine that all sites know and set it to zero.

    The function stays the same, but for a :class:`SiteShift`, which has nothing to be added to: it
    must be zero already. For public training only: a residual that has seen patients must
    never enter what is shared.
    """
    for module in model.modules():
        if isinstance(module, SiteAffine):
            for shared, own in (
                (module.gamma, module.site_scale),
                (module.beta, module.site_shift),
            ):
                if own is not None:
                    shared.add_(own)
    zero_site_residual(model)
