"""Whose instructions the agent obeys: the coordinator's key, and the one that follows it."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.config import SiteConfig
from client.egress.policy import SitePolicy
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import fingerprint, load_public_key
from shared_model.protocol.sealed import Sealed


class CoordinatorKeys:
    """The key of ``site.toml``, and the next one once ``smrfed-site renew`` has accepted it.

    The files are read anew for each message, so that a change of the coordinator's key needs no
    restart here; the policy's ``coordinators`` holds for both.
    """

    def __init__(self, config: SiteConfig, policy: SitePolicy) -> None:
        self._config = config
        self._policy = policy

    @property
    def current(self) -> Ed25519PublicKey:
        """The key of ``site.toml``; raises SMR-E118, and SMR-E363 when the policy forbids it."""
        key = load_public_key(self._config.coordinator_key)
        self._policy.admit_coordinator(fingerprint(key))
        return key

    def signer(self, message: Sealed) -> Ed25519PublicKey:
        """Which of the two keys signed a message; raises SMR-E113 when neither did."""
        try:
            message.verify(self.current, "coordinator")
            return self.current
        except SmrfedError:
            following = self._next()
            if following is None:
                raise
            message.verify(following, "coordinator")
            return following

    def _next(self) -> Ed25519PublicKey | None:
        path = self._config.next_coordinator_key
        if not path.exists():
            return None
        key = load_public_key(path)
        self._policy.admit_coordinator(fingerprint(key))
        return key
