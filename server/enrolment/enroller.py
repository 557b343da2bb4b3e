"""What the coordinator does with a request of the enrolment service; knows nothing of HTTP.

Every step can be done again: a join that was cut off anywhere goes on when the same keys come with
the same token, and ends in the same state.
"""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from server.checkpoints.durable import replace_durably
from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorFolder
from server.enrolment.additions import add
from server.enrolment.key_files import publish_key
from server.enrolment.registry import Invitation, Registry, Site
from server.enrolment.superlink import Nodes
from shared_model.enrolment.addendum import Addendum
from shared_model.enrolment.key_change import KeyChange, News
from shared_model.enrolment.messages import (
    CLOCK_TOLERANCE_S,
    JoinRequest,
    LookRequest,
    NewsRequest,
    Offer,
    RotateRequest,
    Welcome,
    public_key_of,
    raw_hex,
)
from shared_model.enrolment.token import secret_digest
from shared_model.enrolment.versions import SPOKEN, common_version
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import fingerprint, load_public_key, public_path

_CHANGES = TypeAdapter(tuple[KeyChange, ...])
_log = logging.getLogger(__name__)


class Enroller:
    """Answers requests about invitations and keys.

    Args:
        folder: the coordinator's folder.
        nodes: where node keys are registered.
        courier_sha256: the app bundles that this coordinator sends.
    """

    def __init__(
        self, folder: CoordinatorFolder, nodes: Nodes, courier_sha256: tuple[str, ...]
    ) -> None:
        self._folder = folder
        self._nodes = nodes
        self._courier = courier_sha256
        self._registry = Registry(folder.registry)

    def look(self, asked: LookRequest) -> Offer:
        """What an open invitation offers; raises SMR-E595 (invitation) and SMR-E597 (versions)."""
        invitation = self._invitation(asked.secret, asked.site)
        common_version(SPOKEN, asked.protocol_versions, "SMR-E597", f"site {asked.site!r}")
        plan, addendum = None, None
        run = self._run(invitation)
        if run is not None:
            plan = json.loads(run.plan.canonical_json)
            addendum = self._addendum(invitation)
        return Offer(
            federation=self._folder.config.name,
            coordinator_key=self._coordinator_key,
            courier_sha256=self._courier,
            plan=plan,
            addendum=addendum,
        )

    def join(self, asked: JoinRequest) -> Welcome:
        """Enrol the site with its keys, and add it to the run of its invitation.

        Raises SMR-E595 (invitation, proofs, clock, other keys than before, another plan), SMR-E597
        (versions), SMR-E596 (the SuperLink does not answer) and SMR-E594.
        """
        invitation = self._invitation(asked.secret, asked.site)
        version = common_version(
            SPOKEN, asked.protocol_versions, "SMR-E597", f"site {asked.site!r}"
        )
        if not asked.proofs_hold():
            raise _refused("the proof of a key does not hold", "a signature by each new key")
        addendum = self._addendum(invitation)
        if addendum is not None and asked.plan_digest != addendum.digest:
            raise _refused("the hospital accepted another plan", addendum.digest, asked.plan_digest)
        self._require_fresh(asked.asked_at, asked.nonce)
        self._require_unique_keys(asked)
        before = self._registry.site(asked.site)
        if before is not None and before.state == "enrolled" and not invitation.replaces:
            _require_same_keys(before, asked)
        if not self._registry.bind(invitation, asked.node_key, asked.signing_key):
            raise _refused("the token was used before, with other keys", "a token used once")
        try:
            node_id = self._register(asked.site, asked.node_key)
        except SmrfedError:
            if before is None or before.state != "enrolled" or before.node_key != asked.node_key:
                self._registry.release(invitation)
            raise
        self._forget(before, node_id)
        if not self._registry.enrol(
            *(asked.site, asked.node_key, node_id, asked.signing_key, version),
            by=invitation,
            publish=partial(publish_key, self._folder.site_keys, asked.site, asked.signing_key),
        ):
            self._unregister(asked.site, node_id)
            raise _refused("the invitation was withdrawn", "an open invitation")
        run = self._run(invitation)
        if run is not None and addendum is not None:
            add(run, addendum)
            _log.info("site %s is added to run %s", asked.site, run.run_id)
        _log.info(
            "site %s enrolled: signing key %s; compare it with the hospital by telephone",
            asked.site,
            fingerprint(public_key_of(asked.signing_key)),
        )
        return Welcome(
            authority=self._folder.authority.read_text("ascii"),
            coordinator_key=self._coordinator_key,
            courier_sha256=self._courier,
            protocol_version=version,
        )

    def news(self, asked: NewsRequest) -> News:
        """Keys and hashes that changed since; notes which coordinator key the site trusts next.

        Raises SMR-E595 (not an enrolled site, or not signed by it, or seen before).
        """
        site = self._enrolled(asked.site)
        if site.signing_key is None or not asked.signed_by(public_key_of(site.signing_key)):
            raise _refused("the request is not signed by the site's key", "an enrolled site")
        self._require_fresh(asked.asked_at, asked.nonce)
        changes = key_changes(self._folder)
        if asked.accepted is not None and changes and asked.accepted == changes[-1].new:
            self._registry.accepts(site.name, asked.accepted)
        return News(
            coordinator_key=self._coordinator_key,
            key_changes=changes,
            courier_sha256=self._courier,
            protocol_versions=SPOKEN,
        )

    def rotate(self, asked: RotateRequest) -> News:
        """New keys for an enrolled site, on the word of its old signing key; no token is needed.

        Raises SMR-E595 and SMR-E596.
        """
        site = self._enrolled(asked.site)
        # Cut off after the change, the site asks again with the key that was replaced.
        done = asked.signing_key is not None and asked.signing_key == site.signing_key
        signer = site.former_signing_key if done else site.signing_key
        if signer is None or not asked.signed_by(public_key_of(signer)):
            raise _refused("the request is not signed by the site's key", "an enrolled site")
        if not asked.proofs_hold():
            raise _refused("the proof of a key does not hold", "a signature by each new key")
        self._require_fresh(asked.asked_at, asked.nonce)
        if asked.node_key is not None and asked.node_key != site.node_key:
            node_id = self._register(site.name, asked.node_key)
            self._forget(site, node_id)
            if not self._registry.change_node_key(site.name, asked.node_key, node_id):
                self._unregister(site.name, node_id)
                raise _refused("the site was revoked meanwhile", "an enrolled site")
        if asked.signing_key is not None and not self._registry.change_signing_key(
            *(site.name, signer, asked.signing_key),
            partial(publish_key, self._folder.site_keys, site.name, asked.signing_key),
        ):
            raise _refused("the site's key changed meanwhile", "the key that is registered")
        return News(
            coordinator_key=self._coordinator_key,
            key_changes=key_changes(self._folder),
            courier_sha256=self._courier,
            protocol_versions=SPOKEN,
        )

    @property
    def _coordinator_key(self) -> str:
        return raw_hex(load_public_key(public_path(self._folder.signing_key)))

    def _invitation(self, secret: str, site: str) -> Invitation:
        found = self._registry.invitation(secret_digest(secret))
        if found is None or found.site != site:
            raise _refused("no invitation has this secret and this name", "an open invitation")
        if found.withdrawn:
            raise _refused("the invitation was withdrawn", "an open invitation")
        if found.expired:
            raise _refused("the invitation has expired", "an open invitation")
        return found

    def _enrolled(self, name: str) -> Site:
        site = self._registry.site(name)
        if site is None or site.state != "enrolled":
            raise _refused("the request is not signed by the site's key", "an enrolled site")
        return site

    def _require_fresh(self, asked_at: int, nonce: str) -> None:
        off = asked_at - time.time()
        if abs(off) > CLOCK_TOLERANCE_S:
            raise _refused(
                "the clocks differ", f"at most {CLOCK_TOLERANCE_S} s", f"{off:.0f} s (the site's)"
            )
        if not self._registry.first_use(nonce, asked_at + 2 * CLOCK_TOLERANCE_S):
            raise _refused("the request came before", "a request with a fresh nonce")

    def _require_unique_keys(self, asked: JoinRequest) -> None:
        for site in self._registry.sites():
            if site.name != asked.site and asked.signing_key in (
                site.signing_key,
                site.former_signing_key,
            ):
                raise _refused("another site has this signing key", "a key of its own")

    def _register(self, site: str, node_key: str) -> int:
        try:
            return self._nodes.register(site, node_key)
        except SmrfedError as error:
            raise _not_now(site, error) from None

    def _forget(self, site: Site | None, node_id: int) -> None:
        """Unregister the node that a new one replaces; before the registry forgets its number."""
        if site is None or site.node_id is None or site.node_id == str(node_id):
            return
        self._unregister(site.name, int(site.node_id))

    def _unregister(self, site: str, node_id: int) -> None:
        try:
            self._nodes.unregister(node_id)
        except SmrfedError as error:
            raise _not_now(site, error) from None

    def _run(self, invitation: Invitation) -> RunDirectory | None:
        return None if invitation.run is None else RunDirectory.open(Path(invitation.run))

    def _addendum(self, invitation: Invitation) -> Addendum | None:
        said = invitation.addendum
        return None if said is None else Addendum.model_validate_json(said)


def _not_now(site: str, error: SmrfedError) -> SmrfedError:
    return SmrfedError(
        "SMR-E596",
        f"the node key of {site!r} cannot be registered now",
        found=f"{error.code}: {error.found}",
        remedy="see that the SuperLink runs; then the site repeats its command, which goes on "
        "where it stopped. A node key that was unregistered before is not taken again: the site "
        "then uses --new-keys",
    )


def _require_same_keys(site: Site, asked: JoinRequest) -> None:
    if (site.node_key, site.signing_key) != (asked.node_key, asked.signing_key):
        raise _refused("the site is enrolled with other keys", "the keys that it has")


def key_changes(folder: CoordinatorFolder) -> tuple[KeyChange, ...]:
    """Every change of the signing key, oldest first; the last one may be announced only."""
    path = key_changes_file(folder)
    return _CHANGES.validate_json(path.read_bytes()) if path.exists() else ()


def save_key_changes(folder: CoordinatorFolder, changes: tuple[KeyChange, ...]) -> None:
    """Replace what :func:`key_changes` reads."""
    replace_durably(key_changes_file(folder), _CHANGES.dump_json(changes, indent=1))


def key_changes_file(folder: CoordinatorFolder) -> Path:
    """Where the changes of the signing key are kept."""
    return folder.path / "key-changes.json"


def _refused(what: str, expected: str, found: str | None = None) -> SmrfedError:
    return SmrfedError(
        "SMR-E595",
        f"the coordinator refuses: {what}",
        expected=expected,
        found=found,
        remedy="compare name, clock and token; ask the coordinator for a new invitation",
    )
