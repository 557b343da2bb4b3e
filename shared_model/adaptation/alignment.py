"""Layer B's term in a patient's loss: from released moments and that patient's own embedding."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from shared_model.adaptation.moments import (
    Floats,
    SiteMoments,
    common_centre,
    pooled_variances,
)


class SiteConfusion:
    """``weight * KL(uniform_K || q(z, c))``: which site an embedding comes from must not show.

    ``q_j(z, c)`` is the posterior of site j under its released class-conditional Gaussian
    (science.md 3.3, after Dinsdale et al. 2022): a discriminator in closed form, so nothing is
    trained on embeddings of patients. The moments are constants: the term of a patient depends on
    that patient and on what was released, hence a clip bounds its gradient.

    Args:
        sites: moments of at least two sites.
        projection: ``(E, D)``, public.
        weight: lambda.
    """

    def __init__(self, sites: Mapping[str, SiteMoments], projection: Floats, weight: float) -> None:
        self._weight = weight
        self._projection = _tensor(projection)
        self._means = _tensor(np.stack([site.means for site in sites.values()]))
        # One variance for all sites: a released class mean is known to its noise only.
        pooled = np.stack([site.variances for site in sites.values()])
        self._variances = _tensor(pooled)

    def __call__(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """``(B,)`` from ``(B, E)`` and ``(B,)``."""
        log_q = self.log_posterior(embedding, labels)
        divergence = -math.log(log_q.shape[1]) - log_q.mean(1)
        return self._weight * divergence

    def log_posterior(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """``(B, K)`` log q."""
        projection, means, variances = (
            part.to(embedding) for part in (self._projection, self._means, self._variances)
        )
        z = embedding @ projection
        of_class = means[:, labels].transpose(0, 1)  # (B, K, D)
        scores = -0.5 * ((z[:, None] - of_class) ** 2 / variances + variances.log()).sum(-1)
        return scores.log_softmax(1)


class MomentMatching:
    """``weight * (m_kc - m_c)^T W z``: moves a site's class means towards the common ones.

    The expected gradient over the site's patients is that of ``0.5 ||E z - m_c||_W^2`` at the
    released mean, with W the inverse of the pooled variance (science.md 3.3, B2); linear in z, so
    it is a loss of each patient alone.
    """

    def __init__(
        self, site: str, sites: Mapping[str, SiteMoments], projection: Floats, weight: float
    ) -> None:
        self._projection = _tensor(projection)
        pull = (sites[site].means - common_centre(sites)) / pooled_variances(sites)
        self._pull = _tensor(weight * pull)

    def __call__(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """``(B,)`` from ``(B, E)`` and ``(B,)``."""
        z = embedding @ self._projection.to(embedding)
        return (z * self._pull.to(embedding)[labels]).sum(1)


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
