"""Released moments in the body of an instruction, beside the shared parameters.

The body is signed and known by its digest, so every site uses the same moments, a repeated
instruction has the same bytes, and a resumed run builds them again from the stored release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.adaptation.dimensions import moments_dimensions
from shared_model.adaptation.moments import SiteMoments, shapes
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays
from shared_model.releases.schedule import moments_due

_PREFIX = "released-moments/"
_NAME = re.compile(rf"{_PREFIX}(\d{{7}})/([a-z0-9-]+)/([a-z]+)")


@dataclass(frozen=True)
class Carried:
    """The newest release of moments: after which round, and what each site released."""

    after_round: int
    sites: Mapping[str, Arrays]

    def moments(self, plan: FederationPlan) -> dict[str, SiteMoments]:
        """What the released sums say about each site, in the order of the names."""
        radius = plan.adaptation.moments_radius
        noise = plan.adaptation.moments_noise_multiplier
        return {s: SiteMoments.of(self.sites[s], radius, noise) for s in sorted(self.sites)}


def carried_shapes(plan: FederationPlan) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all that an instruction may carry beside the shared parameters."""
    if plan.adaptation.site_moments == "off":
        return {}
    one = _one_site(plan)
    names = [site.name for site in plan.federation.sites]
    return {_name(0, site, array): shape for site in names for array, shape in one.items()}


def with_moments(shared: Arrays, carried: Carried | None) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays of one body."""
    out = dict(shared)
    if carried is not None:
        for site, arrays in carried.sites.items():
            for array, value in arrays.items():
                out[_name(carried.after_round, site, array)] = np.asarray(value, np.float32)
    return out


def without_moments(
    arrays: Arrays, plan: FederationPlan, last_round: int
) -> tuple[dict[str, npt.NDArray[np.float32]], Carried | None]:
    """The shared parameters of a body, and the moments that it carries.

    ``last_round`` is the last after which a release can have been made when the question was asked.
    Raises SMR-E382 unless the moments are one announced release of sites of the plan, whole and
    finite. What they say is not trusted: they only shape a loss whose gradient is clipped.
    """
    shared = {name: value for name, value in arrays.items() if not name.startswith(_PREFIX)}
    sites: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    rounds = set()
    for name, value in arrays.items():
        if name in shared:
            continue
        parts = _NAME.fullmatch(name)
        if parts is None or not np.isfinite(value).all():
            raise _strange(f"array {name!r}")
        rounds.add(int(parts[1]))
        sites.setdefault(parts[2], {})[parts[3]] = value
    if not sites:
        return shared, None
    number = rounds.pop()
    if rounds or number > last_round or not moments_due(plan, number):
        raise _strange(f"moments after round {number}")
    expected, members = _one_site(plan), {site.name for site in plan.federation.sites}
    for site, named in sites.items():
        if site not in members or {n: v.shape for n, v in named.items()} != expected:
            raise _strange(f"moments of {site!r}: {sorted(named)}")
    return shared, Carried(number, sites)


def _one_site(plan: FederationPlan) -> dict[str, tuple[int, ...]]:
    return shapes(len(plan.task.labels), moments_dimensions(plan))


def _name(after_round: int, site: str, array: str) -> str:
    return f"{_PREFIX}{after_round:07d}/{site}/{array}"


def _strange(found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E382",
        "the instruction carries moments that the plan does not announce there",
        expected="one release of sites of the plan, whole and finite, or none",
        found=found,
        remedy="check that coordinator and site run the same plan and smrfed version",
    )
