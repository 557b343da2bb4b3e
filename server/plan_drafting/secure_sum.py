"""What a drafted plan says for one secure sum a round: its thresholds, and the sites' keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from server.config import CoordinatorFolder
from server.enrolment.registry import Registry
from shared_model.errors import SmrfedError
from shared_model.plan import PrivacyMode

# From so many sites on a draft counts on one that works with the coordinator.
_ENOUGH = 4


def secure_sum(sites: int, mode: PrivacyMode) -> str:
    """The section in TOML, with a threshold that no coordinator can get around.

    ``2 threshold > sites + colluding`` (:mod:`shared_model.secure_aggregation.block`); one hospital
    may be missing in a round where that leaves enough.
    """
    colluding = 1 if sites >= _ENOUGH else 0
    threshold = (sites + colluding) // 2 + 1
    survivors = max(threshold, sites - 1)
    noise = _SHARES if mode == "distributed" else _TRUSTED
    return _TEXT.format(noise=noise, threshold=threshold, survivors=survivors, colluding=colluding)


def enrolled_keys(home: Path) -> dict[str, str]:
    """Signing keys of the hospitals that are enrolled: none where there is no registry."""
    path = CoordinatorFolder(home).registry
    if not path.exists():
        return {}
    return {
        site.name: site.signing_key
        for site in Registry(path).sites()
        if site.state == "enrolled" and site.signing_key is not None
    }


def require_keys(sites: Mapping[str, int], keys: Mapping[str, str]) -> dict[str, str]:
    """The keys of these sites; raises SMR-E566 where one is missing."""
    missing = [site for site in sites if site not in keys]
    if missing:
        raise SmrfedError(
            "SMR-E566",
            "hospitals whose masks the plan must certify are not enrolled",
            expected="a signing key of every --site in the registry of HOME",
            found=f"none of {', '.join(missing)}; enrolled: {', '.join(sorted(keys)) or 'nobody'}",
            remedy="invite them (smrfed-coordinator invite) and let them join first, then draft "
            "the plan with --home; or take --privacy local",
        )
    return {site: keys[site] for site in sites}


_SHARES = """\
# Each hospital adds a share of the noise: min_survivors - colluding shares are all of it.
"""
_TRUSTED = """\
# The coordinator opens the sum and adds the noise: hospitals trust it with the sum itself.
"""
_TEXT = """\
# Nobody sees the numbers of one hospital: docs/secure_aggregation.md. A round with fewer than
# min_survivors hospitals is void. threshold must be above (sites + colluding) / 2.
{noise}[secure_aggregation]
threshold = {threshold}
min_survivors = {survivors}
colluding = {colluding}

"""
