"""Which metrics of a round leave the hospital: in mode ``none``, where its policy allows them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from client.egress.policy import SitePolicy
from shared_model.plan import PrivacyMode


def leaving_metrics(
    metrics: Mapping[str, float], patients: int, mode: PrivacyMode, policy: SitePolicy
) -> dict[str, float]:
    """The finite metrics over at least ``min_cell`` patients; none in any private mode."""
    if mode != "none" or not policy.allow_metrics or patients < policy.min_cell:
        return {}
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
