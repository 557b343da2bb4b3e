"""What a hospital asks its coordinator after it joined: what is new, and other keys for its own.

The coordinator cannot widen what this hospital allows: a next coordinator key counts only when the
known one vouches for it and the policy allows it, and a next courier only when ``site.toml`` says
``courier_updates = "accept"`` or a person says ``smrfed-site allow-courier``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.agent.durable import write_durably
from client.agent.state import StateFolder
from client.agent.state_lock import StateLock
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from client.enrolment.connection import Connection
from client.enrolment.keys import load_or_create_node_key, replace_key
from client.enrolment.pinned import PinnedCoordinator
from shared_model.enrolment.key_change import KeyChange, News, successor
from shared_model.enrolment.messages import (
    NewsRequest,
    RotateRequest,
    node_key_line,
    public_key_of,
    raw_hex,
)
from shared_model.enrolment.versions import SPOKEN, common_version
from shared_model.errors import SmrfedError
from shared_model.plan import Sha256
from shared_model.protocol.keys import (
    fingerprint,
    load_or_create_signing_key,
    load_public_key,
    load_signing_key,
    public_pem,
)

_KEPT_COURIERS = 8


@dataclass(frozen=True)
class Renewed:
    """What :func:`renew` found and did; fingerprints and digests for people."""

    coordinator: str
    next_coordinator: str | None
    changed_coordinator: bool
    protocol_version: int
    courier_sha256: tuple[str, ...]
    unallowed_courier: tuple[str, ...]


def renew(config: SiteConfig) -> Renewed:
    """Ask what is new, and take in what this hospital allows.

    Raises SMR-E460 (not joined), SMR-E463 to SMR-E466, and SMR-E468 for a coordinator key that the
    known one does not vouch for, SMR-E363 for one that the policy does not allow.
    """
    folder = config.connection
    connection = folder.load()
    signing = load_signing_key(StateFolder(config.state_dir).key)
    coordinator = _pinned(config, connection)

    def ask(accepted: str | None) -> News:
        request = NewsRequest(site=config.name, accepted=accepted)
        signed = request.model_copy(update={"signature": signing.sign(request.content).hex()})
        return coordinator.ask("news", signed, News)

    news = ask(None)
    version = common_version(SPOKEN, news.protocol_versions, "SMR-E466", "the coordinator")
    known = load_public_key(config.coordinator_key)
    following, changed = None, False
    if news.coordinator_key != raw_hex(known):
        _take_over(config, _vouched(config, known, news.key_changes, news.coordinator_key))
        changed = True
    elif news.key_changes and news.key_changes[-1].old == raw_hex(known):
        following = _vouched(config, known, news.key_changes, news.key_changes[-1].new)
        write_durably(config.next_coordinator_key, public_pem(following))
        ask(raw_hex(following))
    elif config.next_coordinator_key.exists():
        config.next_coordinator_key.unlink()
    # Read anew: a person may have allowed a courier while the coordinator was asked.
    connection = folder.load()
    strange = tuple(one for one in news.courier_sha256 if one not in connection.courier_sha256)
    allowed = connection.courier_sha256
    if strange and config.network.courier_updates == "accept":
        allowed, strange = (*allowed, *strange)[-_KEPT_COURIERS:], ()
    current = load_public_key(config.coordinator_key)
    updated = connection.model_copy(
        update={
            "coordinator": fingerprint(current),
            "courier_sha256": allowed,
            "protocol_version": version,
        }
    )
    if updated != connection:
        folder.save(updated)
    return Renewed(
        coordinator=fingerprint(current),
        next_coordinator=None if following is None else fingerprint(following),
        changed_coordinator=changed,
        protocol_version=version,
        courier_sha256=allowed,
        unallowed_courier=strange,
    )


def allow_courier(config: SiteConfig, sha256: Sha256) -> Connection:
    """Let one more app bundle run here; the oldest of more than eight goes. Raises SMR-E460."""
    connection = config.connection.load()
    others = tuple(one for one in connection.courier_sha256 if one != sha256)
    updated = connection.model_copy(update={"courier_sha256": (*others, sha256)[-_KEPT_COURIERS:]})
    config.connection.save(updated)
    return updated


def rotate_node_key(config: SiteConfig) -> str:
    """Another node key; returns its public line. Restart the SuperNode afterwards.

    Cut off anywhere, the next call goes on with the same new key. Raises SMR-E46x.
    """
    folder = config.connection
    connection = folder.load()
    new_path = folder.path / "node.next.key"
    new = load_or_create_node_key(new_path)
    line = node_key_line(new.public_key())
    signing = load_signing_key(StateFolder(config.state_dir).key)
    request = RotateRequest(site=config.name, node_key=line)
    content = request.content
    proven = request.model_copy(
        update={
            "signature": signing.sign(content).hex(),
            "node_proof": new.sign(content, ec.ECDSA(hashes.SHA384())).hex(),
        }
    )
    _pinned(config, connection).ask("rotate", proven, News)
    replace_key(new_path, folder.node_key)
    return line


def rotate_signing_key(config: SiteConfig) -> Ed25519PublicKey:
    """Another signing key; the agent must not run meanwhile (SMR-E408). Raises SMR-E46x.

    The old key signs the request, so no token is needed. Cut off anywhere, the next call goes on
    with the same new key.
    """
    connection = config.connection.load()
    path = StateFolder(config.state_dir).key
    new_path = path.with_name("site.next.key")
    lock = StateLock(config.state_dir)
    try:
        old, new = load_signing_key(path), load_or_create_signing_key(new_path)
        request = RotateRequest(site=config.name, signing_key=raw_hex(new.public_key()))
        content = request.content
        proven = request.model_copy(
            update={
                "signature": old.sign(content).hex(),
                "signing_proof": new.sign(content).hex(),
            }
        )
        _pinned(config, connection).ask("rotate", proven, News)
        replace_key(new_path, path)
        return new.public_key()
    finally:
        lock.release()


def _pinned(config: SiteConfig, connection: Connection) -> PinnedCoordinator:
    authority = _text(config.connection.authority)
    return PinnedCoordinator(connection.superlink, authority, config.network)


def _vouched(
    config: SiteConfig, known: Ed25519PublicKey, changes: Sequence[KeyChange], wanted: str
) -> Ed25519PublicKey:
    following = successor(known, changes, wanted)
    if following is None:
        raise SmrfedError(
            "SMR-E468",
            "the coordinator has another signing key, and the known one does not vouch for it",
            expected=f"a statement signed by {fingerprint(known)}",
            found=fingerprint(public_key_of(wanted)),
            remedy="compare fingerprints by telephone; only if the coordinator confirms the loss "
            "of its key, remove the coordinator_key file and join again with a new token",
        )
    SitePolicy.load(config.policy).admit_coordinator(fingerprint(following))
    return following


def _take_over(config: SiteConfig, key: Ed25519PublicKey) -> None:
    write_durably(config.coordinator_key, public_pem(key))
    config.next_coordinator_key.unlink(missing_ok=True)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SmrfedError(
            "SMR-E460",
            "this hospital has not joined a federation, or its connection is damaged",
            expected=path,
            found=error,
            remedy="ask the coordinator for a token, then: smrfed-site join TOKEN",
        ) from None
