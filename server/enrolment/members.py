"""Who takes part in a run at this moment: the plan's hospitals, those added, less those revoked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from server.checkpoints.run_directory import RunDirectory
from server.enrolment.additions import additions
from server.enrolment.key_files import is_revoked, key_file
from shared_model.enrolment.addendum import extended_plan
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.keys import load_public_key


class Members:
    """What the driver needs to know of the sites; :meth:`refresh` reads it anew between rounds.

    Without a folder of keys nothing changes: the sites are the plan's, their keys those given.

    Attributes:
        plan: the run's plan with every added hospital: for weights and bounds, never for digests.
    """

    def __init__(
        self,
        run_dir: RunDirectory,
        keys: Mapping[str, Ed25519PublicKey],
        folder: Path | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._folder = folder
        self._keys = dict(keys)
        self._digests: dict[str, str] = {}
        self.plan: FederationPlan = run_dir.plan

    def refresh(self) -> tuple[str, ...]:
        """Take in additions, new keys and revocations; returns the hospitals that are new.

        Raises SMR-E594 (an addendum of another run) and SMR-E118 (a key that is damaged).
        """
        if self._folder is None:
            return ()
        made = additions(self._run_dir)
        digests = {addendum.site.name: addendum.digest for addendum in made}
        new = tuple(site for site in digests if site not in self._digests)
        if digests != self._digests:
            self._digests = digests
            self.plan = extended_plan(self._run_dir.plan, tuple(a.site for a in made))
        for site in self.plan.weights:
            try:
                self._keys[site] = load_public_key(key_file(self._folder, site))
            except SmrfedError:
                if not is_revoked(self._folder, site):
                    raise
        return new

    @property
    def sites(self) -> tuple[str, ...]:
        """Whom to ask: every hospital that was not revoked, the plan's first."""
        return tuple(site for site in self.plan.weights if not self._is_revoked(site))

    @property
    def revoked(self) -> tuple[str, ...]:
        """Hospitals of the plan that are not asked any more."""
        return tuple(site for site in self.plan.weights if self._is_revoked(site))

    def digest(self, site: str) -> str:
        """Digest of the plan that this hospital accepted."""
        return self._digests.get(site, self._run_dir.plan.digest)

    def key(self, site: str) -> Ed25519PublicKey:
        """The hospital's signing key."""
        return self._keys[site]

    def require(self, site: str) -> None:
        """Raise SMR-E599 for a reply of a hospital that was revoked while it answered."""
        if self._is_revoked(site):
            raise SmrfedError(
                "SMR-E599",
                f"site {site!r} was revoked",
                expected="a reply of an enrolled site",
                remedy="nothing to do; invite the site again if that was a mistake",
            )

    def _is_revoked(self, site: str) -> bool:
        return self._folder is not None and is_revoked(self._folder, site)
