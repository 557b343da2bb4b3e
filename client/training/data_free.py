"""What pulls a local step towards the other sites: no patient is looked at, nothing is paid.

FedProx, MR-MTL and SCAFFOLD add to the gradient of step s, after the clip and the noise,

    mu (theta_s - theta_t)          FedProx:  the gradient of (mu / 2) ||theta - theta_t||^2
    lambda (theta_s - theta_bar)    MR-MTL:   the same about the mean of the sites' models
    c - c_k                         SCAFFOLD: the common minus the site's own mean gradient

Guarantee: each is a function of public values and of what was noised before (theta_s, and c_k of
:func:`updated_own_control`), so the steps are as private as without it: post-processing. Limit:
that holds after the noise only. Inside the clip the term would take its share of the bound, and a
term computed from un-noised state would void the guarantee.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays


@dataclass(frozen=True)
class SiteTerms:
    """What a site starts a round with, beside the round's global parameters.

    Attributes:
        own: MR-MTL: the site's own copy of the shared parameters; none before its first round.
        own_control, common_control: SCAFFOLD's c_k and c; none: zero.
    """

    own: Arrays | None = None
    own_control: Arrays | None = None
    common_control: Arrays | None = None


#: For plans without any of them, and in a first round.
NO_TERMS = SiteTerms()


@dataclass(frozen=True)
class DataFreeGradient:
    """``strength * (theta - anchor) + constant``, all ``(P,)`` float64."""

    strength: Tensor
    anchor: Tensor
    constant: Tensor

    @classmethod
    def of(
        cls,
        plan: FederationPlan,
        site_model: SiteModel,
        trained: Sequence[str],
        terms: SiteTerms,
    ) -> Self | None:
        """The term of a round; none where the plan has none.

        ``site_model`` holds the round's global parameters, which are the anchor. Of ``trained``,
        in whose order the vectors are, only shared parameters are pulled.
        """
        section = plan.aggregation
        pull = section.multi_task_lambda or section.proximal_mu
        if not pull and not section.control_variates:
            return None
        shared = set(site_model.groups["shared"])
        parameters = dict(zip(trained, site_model.parameters(trained), strict=True))
        controls = {} if terms.common_control is None else dict(terms.common_control)
        own = {} if terms.own_control is None else terms.own_control
        strength, constant = [], []
        for name, parameter in parameters.items():
            zeros = torch.zeros(parameter.numel(), dtype=torch.float64)
            strength.append(zeros + (pull if name in shared else 0.0))
            if name in shared and section.control_variates:
                constant.append(_flat(controls, name, zeros) - _flat(own, name, zeros))
            else:
                constant.append(zeros)
        anchor = torch.cat([p.detach().reshape(-1).double() for p in parameters.values()])
        device = anchor.device
        return cls(torch.cat(strength).to(device), anchor, torch.cat(constant).to(device))

    def __call__(self, theta: Tensor) -> Tensor:
        """``(P,)`` gradient at ``theta (P,)``."""
        return self.strength * (theta - self.anchor) + self.constant


def updated_own_control(
    delta: Arrays, terms: SiteTerms, steps_times_rate: float
) -> dict[str, npt.NDArray[np.float32]]:
    """SCAFFOLD's option II: ``c_k+ = c_k - c + (x - y) / (E eta)`` with ``y - x = delta``.

    A function of the update that leaves, bit for bit as it leaves, and of earlier such values: in
    mode ``local`` it is built from noised gradients only (DP-SCAFFOLD, Noble et al. 2022), and the
    coordinator derives its change from the same update (:mod:`server.aggregation.control`). In
    exact arithmetic it is the mean of the round's noised gradients.
    """
    out = {}
    for name, value in delta.items():
        control = -value.astype(np.float64) / steps_times_rate
        for known, sign in ((terms.own_control, 1.0), (terms.common_control, -1.0)):
            if known is not None:
                control = control + sign * known[name].astype(np.float64)
        out[name] = control.astype(np.float32)
    return out


def _flat(arrays: Mapping[str, npt.NDArray[np.float32]], name: str, zeros: Tensor) -> Tensor:
    if name not in arrays:
        return zeros
    return torch.from_numpy(arrays[name].astype(np.float64)).reshape(-1)
