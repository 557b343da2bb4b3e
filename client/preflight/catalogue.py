"""All checks of a hospital, in the order in which a person reads them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from client.preflight.machine.disk import check_space, check_writable
from client.preflight.machine.file_system import check_archive_place, check_file_system
from client.preflight.machine.gpu import check_device
from client.preflight.machine.processors import check_memory, check_processors
from client.preflight.network.answer import check_answer, check_large_body
from client.preflight.network.certificate import check_certificate
from client.preflight.network.clock import check_clock
from client.preflight.network.connection import check_connection
from client.preflight.network.names import check_name
from client.preflight.network.way import Way
from client.preflight.setup.agreement import (
    check_atlas,
    check_coordinator,
    check_plan,
    check_policy,
    check_release_hours,
    check_site_key,
)
from client.preflight.setup.connection_files import check_courier, check_joined
from client.preflight.setup.data import check_archive, check_quality
from client.preflight.setup.file_modes import check_modes, check_socket
from client.preflight.setup.processes import check_agent, check_supernode
from client.preflight.setup.records import check_ledger, check_receipts
from client.preflight.site import CheckedSite
from client.proxy import proxy_for
from shared_model.preflight.checks import Check, NotLookedAt

Group = Literal["agreement", "records", "machine", "files", "network", "data", "processes"]
GROUPS: tuple[Group, ...] = get_args(Group)

# Reading an archive of thousands of scans, and importing torch from a cold disk.
_LONG_S = 600.0
_IMPORT_S = 120.0
_LARGE_BODY_S = 60.0


def checks_of(
    site: CheckedSite,
    groups: tuple[Group, ...] = GROUPS,
    *,
    coordinator: str | None = None,
    authority: Path | None = None,
) -> list[Check]:
    """The checks of these groups.

    ``coordinator`` (``host:port``) and ``authority`` (PEM) stand for the connection that a hospital
    has once it has joined.
    """
    chosen = [*_setup(site), *_machine(site), *_network(site, coordinator, authority)]
    order = {group: place for place, group in enumerate(GROUPS)}
    wanted = [check for check in chosen if check.group in groups]
    return sorted(wanted, key=lambda check: order[check.group])  # type: ignore[index]


def _setup(site: CheckedSite) -> Iterator[Check]:
    for what, look in (
        ("policy", check_policy),
        ("release hours", check_release_hours),
        ("coordinator key", check_coordinator),
        ("site key", check_site_key),
        ("plan", check_plan),
        ("joined", check_joined),
    ):
        yield Check("agreement", what, partial(look, site))
    yield Check("agreement", "courier", partial(check_courier, site), _IMPORT_S)
    yield Check("records", "ledger", partial(check_ledger, site), 60.0)
    yield Check("records", "receipts", partial(check_receipts, site), 60.0)
    yield Check("files", "file modes", partial(check_modes, site))
    yield Check("files", "socket", partial(check_socket, site))
    yield Check("data", "archive", partial(check_archive, site), _LONG_S)
    yield Check("data", "quality", partial(check_quality, site))
    yield Check("processes", "agent", partial(check_agent, site))
    yield Check("processes", "SuperNode", partial(check_supernode, site))


def _machine(site: CheckedSite) -> Iterator[Check]:
    yield Check("machine", "processors", partial(check_processors, site))
    yield Check("machine", "memory", check_memory)
    yield Check("machine", "disk", partial(check_space, site))
    yield Check("machine", "writing", partial(check_writable, site))
    yield Check("machine", "file system", partial(check_file_system, site))
    yield Check("machine", "archive's drive", partial(check_archive_place, site))
    yield Check("machine", "device", partial(check_device, site), _IMPORT_S)
    yield Check("machine", "atlas", partial(check_atlas, site), _IMPORT_S)


def _network(site: CheckedSite, coordinator: str | None, authority: Path | None) -> Iterator[Check]:
    if coordinator is None and not site.joined:
        yield Check("network", "coordinator", _nowhere)
        return
    ways: list[Way] = []

    def way() -> Way:
        """Built by the first check, so that a wrong proxy or connection is one check's problem."""
        if not ways:
            ways.append(_way(site, coordinator, authority))
        return ways[0]

    # Name resolution has no limit of its own: the system's may be 30 s where packets are dropped.
    yield Check("network", "name", lambda: check_name(way()), 6.0)
    yield Check("network", "connection", lambda: check_connection(way()), 12.0)
    yield Check("network", "certificate", lambda: check_certificate(way()), 12.0)
    yield Check("network", "coordinator", lambda: check_answer(way()), 25.0)
    yield Check("network", "clock", lambda: check_clock(way()), 25.0)
    yield Check("network", "large messages", lambda: check_large_body(way()), _LARGE_BODY_S)


def _nowhere() -> str:
    raise NotLookedAt("not joined yet; --coordinator HOST:PORT tries the way to one")


def _way(site: CheckedSite, coordinator: str | None, authority: Path | None) -> Way:
    connection = site.connection if coordinator is None else None
    address = coordinator if connection is None else connection.superlink
    assert address is not None
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if connection is not None and authority is None:
        authority = site.connection_folder.authority
    return Way(host, int(port), proxy_for(host, site.config.network), authority)
