"""A folder per simulated hospital: configuration, policy and keys, as a real hospital has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from client.agent.state import StateFolder
from client.config import SiteConfig
from shared_model.atlas.cache import write_atomically
from shared_model.plan import PrivacyMode
from shared_model.protocol.keys import (
    load_or_create_signing_key,
    load_public_key,
    public_path,
)


@dataclass(frozen=True)
class Workspace:
    """Where the parties of a simulated federation keep their files.

    ::

        ROOT/coordinator/coordinator.key[.pub]
        ROOT/coordinator/sites/SITE.pub
        ROOT/sites/SITE/{site.toml, policy.toml, state/}
    """

    root: Path
    site_names: tuple[str, ...]

    @property
    def coordinator_key_path(self) -> Path:
        """The coordinator's signing key."""
        return self.root / "coordinator" / "coordinator.key"

    @property
    def coordinator_key(self) -> Ed25519PrivateKey:
        """The coordinator's signing key, made on first use."""
        return load_or_create_signing_key(self.coordinator_key_path)

    @property
    def site_keys_folder(self) -> Path:
        """The sites' public keys as the coordinator registered them."""
        return self.root / "coordinator" / "sites"

    def site_keys(self, names: Sequence[str]) -> dict[str, Ed25519PublicKey]:
        """Registered public keys by site name."""
        return {name: load_public_key(self.site_keys_folder / f"{name}.pub") for name in names}

    def signing_keys(self, names: Sequence[str]) -> dict[str, str]:
        """The same keys as a plan with a secure sum names them: hexadecimal digits."""
        return {n: key.public_bytes_raw().hex() for n, key in self.site_keys(names).items()}

    def site_config(self, name: str) -> Path:
        """``site.toml`` of one hospital."""
        return self.root / "sites" / name / "site.toml"


def create_workspace(
    root: Path,
    archives: dict[str, Path],
    labels: Sequence[str],
    *,
    modes: tuple[PrivacyMode, ...] = ("local",),
    max_epsilon: float = 10.0,
    max_shared_parameters: int = 50_000,
    device: str = "cpu",
) -> Workspace:
    """Make the folders and keys of a federation whose hospitals hold these archives.

    ``modes`` are what the simulated hospitals' policies allow: synthetic data may be used without
    privacy, a real hospital's policy forbids it by default. Existing keys and state are kept.
    """
    workspace = Workspace(root, tuple(archives))
    coordinator = workspace.coordinator_key_path
    _ = workspace.coordinator_key
    workspace.site_keys_folder.mkdir(parents=True, exist_ok=True)
    for name, archive in archives.items():
        folder = workspace.site_config(name).parent
        folder.mkdir(parents=True, exist_ok=True)
        site = {
            "name": name,
            "archive": str(archive.resolve()),
            "state_dir": "state",
            "coordinator_key": str(public_path(coordinator).resolve()),
            "policy": "policy.toml",
            "socket": "run/agent.sock",
            "device": device,
            "labels": {label: [label] for label in labels},
        }
        policy = {
            "modes": list(modes),
            "max_epsilon": max_epsilon,
            "max_shared_parameters": max_shared_parameters,
            # Synthetic hospitals release what their plan asks for.
            "allow_evaluation": True,
            "allow_calibration": True,
            "allow_moments": True,
        }
        # Whole or not at all: several processes may ask for the same hospitals.
        write_atomically(workspace.site_config(name), tomli_w.dumps(site).encode())
        write_atomically(folder / "policy.toml", tomli_w.dumps(policy).encode())
        key = StateFolder(SiteConfig.load(workspace.site_config(name)).state_dir).key
        load_or_create_signing_key(key)
        public = public_path(key).read_bytes()
        (workspace.site_keys_folder / f"{name}.pub").write_bytes(public)
    return workspace
