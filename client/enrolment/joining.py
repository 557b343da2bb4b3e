"""Joining a federation: look at what is offered, prove the keys, keep what is needed to connect.

The steps may stop anywhere. Keys are made once and found again; the connection file is written
last; and the coordinator takes the same token again from the same keys. So joining again goes on.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from client.agent.durable import write_durably
from client.agent.state import StateFolder
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from client.enrolment.connection import Connection, ConnectionFolder
from client.enrolment.keys import NodePrivateKey, load_or_create_node_key
from client.enrolment.pinned import PinnedCoordinator
from shared_model.enrolment.messages import (
    JoinRequest,
    LookRequest,
    Offer,
    Welcome,
    node_key_line,
    public_key_of,
    raw_hex,
)
from shared_model.enrolment.token import JoinToken
from shared_model.enrolment.versions import SPOKEN, common_version
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.keys import (
    fingerprint,
    load_or_create_signing_key,
    load_public_key,
    public_pem,
)
from shared_model.supervision.secret_file import ensure_secret


@dataclass(frozen=True)
class Joining:
    """One hospital on its way into a federation."""

    config: SiteConfig
    token: JoinToken
    coordinator: PinnedCoordinator

    @classmethod
    def begin(cls, config: SiteConfig, token: JoinToken) -> Joining:
        """Pin the coordinator; raises SMR-E462, SMR-E463, SMR-E465 and SMR-E469 (other one)."""
        token.require_site(config.name)
        token.require_fresh()
        found = PinnedCoordinator.find(token.address, token.authority_sha256, config.network)
        _require_same_authority(config.connection, found)
        return cls(config, token, found)

    def look(self) -> Offer:
        """What the invitation offers.

        Raises SMR-E464 (refused), SMR-E466 (versions), SMR-E363 (the policy allows another
        coordinator only) and SMR-E469 (another key than the one that is known here).
        """
        offer = self.coordinator.ask(
            "look", LookRequest(secret=self.token.secret, site=self.config.name), Offer
        )
        common_version(SPOKEN, offer.protocol_versions, "SMR-E466", "the coordinator")
        self._require_coordinator_key(offer.coordinator_key)
        return offer

    def plan(self, offer: Offer) -> FederationPlan | None:
        """The plan that this hospital is to accept, if the invitation is for a run.

        Raises SMR-E102, SMR-E104 and SMR-E594 for a plan or an addendum that does not hold.
        """
        if offer.plan is None:
            return None
        plan = FederationPlan.parse(offer.plan, source="of the invitation")
        if offer.addendum is not None:
            plan = offer.addendum.plan(plan, public_key_of(offer.coordinator_key))
        plan.site(self.config.name)
        return plan

    def write_plan(self, plan: FederationPlan) -> Path:
        """The plan as a file that ``smrfed-site accept`` and people read."""
        path = self.config.connection.path / f"plan-{plan.digest[:12]}.toml"
        data = plan.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        write_durably(path, tomli_w.dumps({"format": plan.format, **data}).encode())
        if FederationPlan.load(path).digest != plan.digest:
            raise RuntimeError("a plan changed its digest on the way to TOML")
        return path

    def node_key(self, *, new: bool = False) -> NodePrivateKey:
        """The SuperNode's key, made on first use; ``new`` puts another one in its place."""
        path = self.config.connection.node_key
        if new:
            path.unlink(missing_ok=True)
        return load_or_create_node_key(path)

    def join(self, node: NodePrivateKey, plan: FederationPlan | None, offer: Offer) -> Connection:
        """Prove the keys, and write down the connection, which is what ``offer`` said.

        Raises SMR-E464 to SMR-E466, and SMR-E469 when the coordinator says something else now.
        """
        folder = self.config.connection
        signing = load_or_create_signing_key(StateFolder(self.config.state_dir).key)
        ensure_secret(folder.superexec_secret)
        request = JoinRequest(
            secret=self.token.secret,
            site=self.config.name,
            node_key=node_key_line(node.public_key()),
            signing_key=raw_hex(signing.public_key()),
            plan_digest=None if plan is None else plan.digest,
        ).proven(signing, node)
        welcome = self.coordinator.ask("join", request, Welcome)
        _require_as_offered(offer, welcome)
        self._require_same_pin(welcome.authority)
        connection = Connection(
            site=self.config.name,
            superlink=self.token.address,
            coordinator=fingerprint(public_key_of(welcome.coordinator_key)),
            courier_sha256=welcome.courier_sha256,
            protocol_version=welcome.protocol_version,
        )
        write_durably(folder.authority, self.coordinator.authority.encode())
        pem = public_pem(public_key_of(welcome.coordinator_key))
        if not _same_content(self.config.coordinator_key, pem):
            write_durably(self.config.coordinator_key, pem)
        folder.save(connection)
        return connection

    def _require_coordinator_key(self, raw: str) -> None:
        key = public_key_of(raw)
        SitePolicy.load(self.config.policy).admit_coordinator(fingerprint(key))
        path = self.config.coordinator_key
        if path.exists() and raw_hex(load_public_key(path)) != raw:
            raise _another(
                f"the coordinator signs with another key than {path}",
                fingerprint(load_public_key(path)),
                fingerprint(key),
            )

    def _require_same_pin(self, authority: str) -> None:
        try:
            digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(authority)).hexdigest()
        except ValueError:
            digest = "no certificate"
        if digest != self.token.authority_sha256:
            raise _another(
                "the coordinator names another authority than its token",
                self.token.authority_sha256,
                digest,
            )


def _require_as_offered(offer: Offer, welcome: Welcome) -> None:
    """A person agreed to the offer, not to what came afterwards."""
    offered = (offer.coordinator_key, offer.courier_sha256)
    found = (welcome.coordinator_key, welcome.courier_sha256)
    if found != offered:
        raise _another(
            "the coordinator does not keep to what it offered",
            *(
                f"signing key {fingerprint(public_key_of(key))}, courier {', '.join(courier)}"
                for key, courier in (offered, found)
            ),
        )


def _require_same_authority(folder: ConnectionFolder, found: PinnedCoordinator) -> None:
    if folder.file.exists() and not _same_content(folder.authority, found.authority.encode()):
        known = folder.load()
        raise _another(
            "this hospital has joined another federation with this state folder",
            f"the authority of {known.superlink}",
            f"the authority of {found.address}",
        )


def _same_content(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes().strip() == content.strip()
    except OSError:
        return False


def _another(what: str, expected: str, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E469",
        what,
        expected=expected,
        found=found,
        remedy="compare fingerprints with the coordinator by telephone; for another federation use "
        "another state_dir, coordinator_key and connection_dir",
    )
