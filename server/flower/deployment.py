"""Where a deployed run finds its keys, and how patient its driver is: ``deployment.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.enrolment.key_files import is_revoked, key_file
from server.rounds.settings import DriverSettings
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.keys import load_public_key

_FILE = "deployment.toml"


class Deployment(BaseModel):
    """The coordinator's local settings of one run, beside the run's checkpoints.

    They are in a file because Flower sends its own run configuration to every site.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    coordinator_key: Path = Field(description="PEM file of the key that signs instructions")
    site_keys: Path = Field(description="folder with SITE.pub, a PEM public key, for every site")
    driver: DriverSettings = Field(default_factory=DriverSettings)

    @staticmethod
    def exists(run_dir: Path) -> bool:
        """Whether ``RUN_DIR/deployment.toml`` is there."""
        return (run_dir / _FILE).exists()

    @classmethod
    def load(cls, run_dir: Path) -> Deployment:
        """Read ``RUN_DIR/deployment.toml``; raises SMR-E555.

        Relative paths are relative to the run directory.
        """
        path = run_dir / _FILE
        try:
            read = cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError) as error:
            raise SmrfedError(
                "SMR-E555",
                f"cannot read {path}",
                expected="coordinator_key, site_keys, and optionally [driver]",
                found=error,
                remedy="write the file as docs/deployment.md shows",
            ) from None
        return read.model_copy(
            update={
                "coordinator_key": run_dir / read.coordinator_key,
                "site_keys": run_dir / read.site_keys,
            }
        )

    def save(self, run_dir: Path) -> None:
        """Write ``RUN_DIR/deployment.toml``."""
        data = self.model_dump(mode="json", exclude_none=True)
        (run_dir / _FILE).write_text(tomli_w.dumps(data), encoding="utf-8")

    def public_keys(self, plan: FederationPlan) -> dict[str, Ed25519PublicKey]:
        """The key of every site of the plan that was not revoked.

        Raises SMR-E118 for one that is missing or damaged.
        """
        return {
            site.name: load_public_key(key_file(self.site_keys, site.name))
            for site in plan.federation.sites
            if not is_revoked(self.site_keys, site.name)
        }
