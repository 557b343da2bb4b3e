"""The coordinator's next signing key: announced, accepted by the hospitals, then carried out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from server.checkpoints.durable import replace_durably
from server.config import CoordinatorFolder
from server.enrolment.authority import write_private
from server.enrolment.enroller import key_changes, save_key_changes
from server.enrolment.registry import Registry
from shared_model.enrolment.key_change import KeyChange
from shared_model.enrolment.messages import raw_hex
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import (
    load_or_create_signing_key,
    load_signing_key,
    public_path,
    public_pem,
)


def announce(folder: CoordinatorFolder) -> KeyChange:
    """Make the next key and the statement that every hospital reads with ``smrfed-site renew``.

    Said twice, it is the same statement. Raises SMR-E118.
    """
    old = load_signing_key(folder.signing_key)
    new = load_or_create_signing_key(_next_key(folder))
    known = key_changes(folder)
    for change in known[-1:]:
        if change.new == raw_hex(new.public_key()) and change.follows(old.public_key()):
            return change
    change = KeyChange.announce(old, new, datetime.now(UTC).isoformat(timespec="seconds"))
    save_key_changes(folder, (*known, change))
    return change


def carry_out(folder: CoordinatorFolder, registry: Registry, *, without: tuple[str, ...]) -> None:
    """Sign with the announced key from the next start of a run on.

    Raises SMR-E598 when nothing was announced, or an enrolled hospital has not accepted the key and
    is not named in ``without``. Cut off, it is said again.
    """
    if not _next_key(folder).exists() or not key_changes(folder):
        raise _not_yet("no new key was announced", "smrfed-coordinator rotate, first")
    new = load_signing_key(_next_key(folder))
    waiting = [
        site.name
        for site in registry.sites()
        if site.state == "enrolled"
        and site.accepts_key != raw_hex(new.public_key())
        and site.name not in without
    ]
    if waiting:
        raise _not_yet(
            f"hospitals that do not accept the new key yet: {', '.join(waiting)}",
            "smrfed-site renew at each of them; or --without SITE: that one refuses instructions "
            "until it has renewed",
        )
    # The old key goes, the new one comes in one step; the public half is put right when it is read.
    former = folder.path / "coordinator.former.pem.pub"
    former.write_bytes(public_path(folder.signing_key).read_bytes())
    write_private(folder.signing_key, _next_key(folder).read_bytes())
    replace_durably(public_path(folder.signing_key), public_pem(new.public_key()))
    public_path(_next_key(folder)).unlink(missing_ok=True)
    _next_key(folder).unlink()


def _next_key(folder: CoordinatorFolder) -> Path:
    return folder.path / "coordinator.next.pem"


def _not_yet(found: str, remedy: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E598",
        "the coordinator's signing key cannot be changed now",
        expected="an announced key that every enrolled hospital accepts",
        found=found,
        remedy=remedy,
    )
