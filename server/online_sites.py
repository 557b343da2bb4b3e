"""Which sites are connected, asked of the SuperLink on loopback."""

from __future__ import annotations

from server.config import CoordinatorFolder


def online_sites(home: CoordinatorFolder) -> frozenset[str]:
    """Names of the sites whose SuperNode is online; raises SMR-E550."""
    # Flower takes a second to import; who reads files alone need not wait, nor have it.
    from server.flower.control import ControlApi

    with ControlApi(home.config.superlink_address, home.authority) as control:
        return control.online_sites()
