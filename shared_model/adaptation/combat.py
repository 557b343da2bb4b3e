"""Federated ComBat: location and scale of every site, from sums alone (layer D).

    y_ig = alpha_g + x_i beta_g + gamma_kg + delta_kg e_ig

(Johnson et al. 2007, for volumes Fortin et al. 2018), with age, sex and diagnosis in x, so that
what they explain is kept. Empirical Bayes over the features of a site: gamma is normal, delta^2
inverse gamma. Without noise the result is that of the pooled table to rounding. With noised sums
(see :mod:`shared_model.adaptation.combat_sums`) it is post-processing: sums are made symmetric and
positive and variances floored, so that noise can make it useless but not break it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.adaptation.combat_sums import PublicScale, SiteSums
from shared_model.errors import SmrfedError

Floats = npt.NDArray[np.float64]

#: A site's squared scale is believed between these, relative to all sites.
_SCALES = (0.05, 20.0)
_ITERATIONS = 1000


@dataclass(frozen=True)
class SiteEffect:
    """What one site adds: ``(G,)`` location gamma and squared scale delta^2, standardised units."""

    location: Floats
    square_scale: Floats


@dataclass(frozen=True)
class Combat:
    """The fitted model; P covariates and G features, in the units of ``scale``.

    Attributes:
        scale: the public units.
        mean: ``(G,)`` alpha, over all patients at the sites.
        beta: ``(P, G)``.
        variance: ``(G,)`` of the residuals, pooled.
        sites: effect of every site, by name.
    """

    scale: PublicScale
    mean: Floats
    beta: Floats
    variance: Floats
    sites: Mapping[str, SiteEffect]

    def harmonise(self, site: str, covariates: Floats, features: Floats) -> Floats:
        """``(N, G)`` features without the site's location and scale; needs all covariates."""
        x = (covariates - self.scale.x_centre) / self.scale.x_scale
        y = (features - self.scale.y_centre) / self.scale.y_scale
        effect = self.sites[site]
        known = self.mean + x @ self.beta
        apart = (y - known) / np.sqrt(self.variance) - effect.location
        clean = apart / np.sqrt(effect.square_scale) * np.sqrt(self.variance) + known
        out: Floats = clean * self.scale.y_scale + self.scale.y_centre
        return out

    def without_location(self, site: str, features: Floats) -> Floats:
        """``(N, G)`` features without the site's location: nobody's diagnosis is needed.

        What a classifier of the diagnosis may use: the scale of a residual would need the very
        label that is to be predicted.
        """
        shift = self.sites[site].location * np.sqrt(self.variance) * self.scale.y_scale
        out: Floats = features - shift
        return out


def fit_combat(
    sites: Mapping[str, SiteSums], scale: PublicScale, *, ridge: float = 0.0, eb: bool = True
) -> Combat:
    """Fit on the sums of at least two sites; the order of the sites plays no part.

    Args:
        sites: of every site, exact or noised.
        scale: the public units of the sums.
        ridge: added to the diagonal of the normal equations of the covariates, in patients; about
            the noise on ``xx``.
        eb: empirical Bayes; without, every feature of a site by itself.

    Raises SMR-E647 for fewer than two sites, or one that (after noise) has fewer than two patients.
    """
    names = sorted(sites)
    found = [sites[name] for name in names]
    small = [name for name in names if not sites[name].n >= 2]
    if len(names) < 2 or small:
        raise SmrfedError(
            "SMR-E647",
            "ComBat cannot be fitted to these hospitals",
            expected="at least two hospitals of at least two patients",
            found=f"{len(names)} hospitals, too small: {small}",
            remedy="leave out hospitals without patients; add others",
        )
    n = np.array([s.n for s in found])
    total = float(n.sum())
    beta = _slopes(found, ridge)
    levels = np.stack([(s.y - s.x @ beta) / s.n for s in found])  # of each site at x = 0
    mean = n @ levels / total
    residual = sum(_squares(s, level, beta) for s, level in zip(found, levels, strict=True))
    floor = 1e-8 + 1e-3 * float(np.mean(np.maximum(residual, 0.0))) / total
    variance = np.maximum(residual / total, floor)
    effects = {}
    for name, s, level in zip(names, found, levels, strict=True):
        location = (level - mean) / np.sqrt(variance)
        spread = _squares(s, level, beta) / variance / (s.n - 1)
        effects[name] = _effect(s.n, location, np.clip(spread, *_SCALES), eb)
    return Combat(scale, mean, beta, variance, effects)


def _slopes(sites: list[SiteSums], ridge: float) -> Floats:
    """``(P, G)`` within-site least squares: each site has its own level."""
    within = sum(s.xx - np.outer(s.x, s.x) / s.n for s in sites)
    cross = sum(s.xy - np.outer(s.x, s.y) / s.n for s in sites)
    values, vectors = np.linalg.eigh(0.5 * (within + np.transpose(within)))
    # A direction without spread, or with less than noise gives it, explains nothing.
    smallest = max(ridge, 1e-9 * float(np.max(np.abs(values), initial=1e-300)))
    inverse = np.where(values > smallest, 1.0 / np.maximum(values + ridge, smallest), 0.0)
    beta: Floats = (vectors * inverse) @ vectors.T @ cross
    return beta


def _squares(s: SiteSums, level: Floats, beta: Floats) -> Floats:
    """``(G,)`` sum over a site of ``(y - level - x beta)^2``, from its sums; not negative."""
    fitted = s.n * level**2 + 2 * level * (s.x @ beta) + np.einsum("pg,pq,qg->g", beta, s.xx, beta)
    mixed = level * s.y + (beta * s.xy).sum(0)
    out: Floats = np.maximum(s.yy - 2 * mixed + fitted, 0.0)
    return out


def _effect(n: float, location: Floats, spread: Floats, eb: bool) -> SiteEffect:
    """Posterior location and squared scale of a site of n patients, features sharing a prior."""
    if not eb or len(location) < 2:
        return SiteEffect(location, spread)
    centre, between = float(location.mean()), float(location.var(ddof=1))
    m, v = float(spread.mean()), max(float(spread.var(ddof=1)), 1e-12)
    shape, rate = (2 * v + m**2) / v, (m * v + m**3) / v
    gamma, delta = location, spread
    squares = (n - 1) * spread + n * location**2  # of the standardised residuals
    for _ in range(_ITERATIONS):
        held = (gamma, delta)
        gamma = (n * between * location + delta * centre) / (n * between + delta)
        around = squares - 2 * n * gamma * location + n * gamma**2
        delta = (0.5 * around + rate) / (0.5 * n + shape - 1)
        if max(np.abs(gamma - held[0]).max(), np.abs(delta - held[1]).max()) < 1e-12:
            break
    return SiteEffect(gamma, delta)
