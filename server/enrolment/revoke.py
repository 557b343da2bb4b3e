"""A hospital leaves: its node is refused, its replies too, and no token brings its keys back."""

from __future__ import annotations

from functools import partial

from server.config import CoordinatorFolder
from server.enrolment.key_files import withdraw_key
from server.enrolment.registry import Registry
from server.enrolment.superlink import Nodes
from shared_model.errors import SmrfedError


def revoke(folder: CoordinatorFolder, nodes: Nodes, site: str, reason: str) -> None:
    """Revoke a site; runs that go on notice it at once and ask it no more.

    Its key file goes first, so that replies are refused whatever fails afterwards. Raises SMR-E593
    (no such site) and SMR-E550 (the SuperLink does not answer: repeat the command).
    """
    registry = Registry(folder.registry)
    if registry.site(site) is None:
        raise SmrfedError(
            "SMR-E593",
            f"there is no site {site!r}",
            expected=[one.name for one in registry.sites()],
            remedy="name a site of smrfed-coordinator sites",
        )
    withdraw_key(folder.site_keys, site)
    registry.revoke(site, reason, partial(withdraw_key, folder.site_keys, site))
    # Read after it: a join or a rotation may have brought another node just before.
    known = registry.site(site)
    if known is not None and known.node_id is not None:
        nodes.unregister(int(known.node_id))
