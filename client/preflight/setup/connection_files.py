"""What joining left behind, and whether this installation fits the coordinator's."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version

from client.courier.flower_names import REPLACED, require_names
from client.courier.refused_bundles import FILE_NAME, refused_bundles
from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note, NotLookedAt
from shared_model.protocol.messages import PROTOCOL_VERSION

_CLOSED = "the connection belongs to the network part's account: run the check there too"


def check_joined(site: CheckedSite) -> str:
    """The connection and its files; raises SMR-E460 (damaged) and SMR-E447 (a file is missing)."""
    if site.connection_closed:
        raise NotLookedAt(_CLOSED)
    connection = site.connection
    if connection is None:
        return Note("not yet: smrfed-site join TOKEN, with the coordinator's token")
    folder = site.connection_folder
    needed = (folder.authority, folder.node_key, folder.superexec_secret)
    missing = [path.name for path in needed if not path.is_file()]
    if missing or connection.site != site.config.name:
        name = f"it was made for the site {connection.site!r}"
        raise SmrfedError(
            "SMR-E447",
            f"the connection in {folder.path} is not complete, or not this site's",
            expected=f"{', '.join(path.name for path in needed)}, for the site "
            f"{site.config.name!r}",
            found=f"missing: {', '.join(missing)}" if missing else name,
            remedy="ask the coordinator for a new token and join again",
        )
    return f"as {connection.site}, to {connection.superlink}"


def check_courier(site: CheckedSite) -> str:
    """Protocol, Flower's version, and the app bundles that may run.

    Raises SMR-E445, and SMR-E472 where the courier cannot be pinned in this Flower.
    """
    pinned = _pinned_flower()
    try:
        installed: str | None = version("flwr")
    except PackageNotFoundError:
        installed = None
    if installed is not None and pinned is not None and installed != pinned:
        raise _misfit(f"flwr {pinned}", f"flwr {installed}", "install the pinned version again")
    flower = f"flwr {installed}" if installed else "flwr is not installed in this environment"
    if site.connection_closed:
        raise NotLookedAt(f"{flower}; {_CLOSED}")
    connection = site.connection
    if connection is None:
        raise NotLookedAt(f"{flower}; bundles are pinned when the hospital joins")
    if connection.protocol_version != PROTOCOL_VERSION:
        raise _misfit(
            f"protocol version {connection.protocol_version}, which the coordinator speaks",
            f"version {PROTOCOL_VERSION} here",
            "install the version of smrfed that the coordinator names",
        )
    if not connection.courier_sha256:
        raise _misfit(
            "the hash of at least one app bundle", "none, so nothing may run", "join again"
        )
    shown = ", ".join(digest[:12] for digest in connection.courier_sha256)
    text = f"{flower}, protocol {PROTOCOL_VERSION}, pinned bundles {shown}"
    if installed is None:
        return Note(text)
    _require_pinnable()
    refused = len(refused_bundles(site.connection_folder.path / FILE_NAME).read())
    if refused:
        return Note(f"{text}; {refused} foreign bundles were refused: {FILE_NAME} tells which")
    return text


def _require_pinnable() -> None:
    """Raise SMR-E472 where this Flower lacks the names by which the courier is pinned."""
    module = import_module("flwr.supernode.runtime.run_clientapp")
    require_names(module, "run_clientapp", REPLACED)


def _pinned_flower() -> str | None:
    try:
        declared = requires("smrfed") or []
    except PackageNotFoundError:
        return None
    found = (re.match(r"flwr(?:\[[^]]*\])?\s*==\s*([0-9.]+)", line) for line in declared)
    return next((match[1] for match in found if match), None)


def _misfit(expected: str, found: str, remedy: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E445",
        "what is installed here does not fit the federation that the hospital joined",
        expected=expected,
        found=found,
        remedy=remedy,
    )
