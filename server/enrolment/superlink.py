"""Node keys at the SuperLink, so that asking twice does no more than asking once."""

from __future__ import annotations

from typing import Protocol

from server.config import CoordinatorFolder
from shared_model.errors import SmrfedError


class Nodes(Protocol):
    """Where a site's node key is admitted, and refused again."""

    def register(self, site: str, node_key: str) -> int:
        """Admit an OpenSSH key under the site's name; the node id. Twice: the same id."""
        ...

    def unregister(self, node_id: int) -> None:
        """Refuse a node from now on; one that is not there any more is no error."""
        ...


class SuperLinkNodes:
    """The SuperLink of a coordinator's folder; raises SMR-E550 when it does not answer."""

    def __init__(self, folder: CoordinatorFolder) -> None:
        self._folder = folder

    def register(self, site: str, node_key: str) -> int:
        """See :class:`Nodes`."""
        # Flower is imported where it is used: the commands that need no SuperLink do without.
        from server.flower.control import ControlApi

        key = node_key.encode()
        with ControlApi(self._address, self._folder.authority) as control:
            known = control.find_node(site, key)
            return control.register_node(site, key) if known is None else known

    def unregister(self, node_id: int) -> None:
        """See :class:`Nodes`."""
        from server.flower.control import ControlApi

        with ControlApi(self._address, self._folder.authority) as control:
            try:
                control.unregister_node(node_id)
            except SmrfedError:
                # Refused, because it was unregistered before, or nobody answers; only the first
                # is what the caller wants.
                if control.node_exists(node_id):
                    raise

    @property
    def _address(self) -> str:
        return self._folder.config.superlink_address
