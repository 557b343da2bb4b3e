"""A small hospital with a real agent: folders, keys, plan, and a coordinator that signs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_site import small_atlas, small_plan

from client.agent.agent import SiteAgent
from client.agent.state import StateFolder
from client.config import SiteConfig
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, body_digest, decode_arrays, encode_arrays
from shared_model.protocol.keys import create_signing_key
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal

POLICY = """
modes = ["none", "local"]
max_epsilon = 1000.0
max_reply_bytes = 50_000_000
max_shared_parameters = 10_000_000
min_cell = 1
"""
SITE = """
name = "a"
archive = "{archive}"
state_dir = "state"
device = "cpu"
coordinator_key = "coordinator.key.pub"
socket = "{socket}"
policy = "policy.toml"

[labels]
CN = ["CN"]
MCI = ["MCI"]
AD = ["AD"]
"""


@dataclass(frozen=True)
class Hospital:
    """Site ``a`` below ``folder``, and the coordinator's private key."""

    folder: Path
    plan: FederationPlan
    coordinator: Ed25519PrivateKey

    @property
    def config(self) -> SiteConfig:
        return SiteConfig.load(self.folder / "site.toml")

    @property
    def state(self) -> StateFolder:
        return StateFolder(self.config.state_dir)

    def agent(self) -> SiteAgent:
        return SiteAgent(self.config, self.plan, atlas=small_atlas())

    def instruction(
        self,
        arrays: Arrays | bytes,
        round_number: int = 1,
        kind: str = "train",
        key: Ed25519PrivateKey | None = None,
        **changes: Any,
    ) -> Sealed:
        body = arrays if isinstance(arrays, bytes) else encode_arrays(arrays)
        header = RoundInstruction.model_validate(
            {
                "run_id": "run-1",
                "round": round_number,
                "kind": kind,
                "site": "a",
                "plan_digest": self.plan.digest,
                "body_sha256": body_digest(body),
            }
            | changes
        )
        return seal(header.canonical_json, body, key or self.coordinator)


def build_hospital(folder: Path, archive: Path, plan: FederationPlan | None = None) -> Hospital:
    folder.mkdir(mode=0o700, parents=True)
    coordinator = create_signing_key(folder / "coordinator.key")
    (folder / "policy.toml").write_text(POLICY)
    (folder / "site.toml").write_text(
        SITE.format(archive=archive, socket=folder / "run" / "agent.sock")
    )
    return Hospital(folder, plan or small_plan(), coordinator)


def opened(agent: SiteAgent, reply: Sealed) -> tuple[RoundReply, dict[str, np.ndarray]]:
    """The parts of a reply, once its signature and body were verified."""
    reply.verify(agent.public_key, "a")
    return decode_header(RoundReply, reply), decode_arrays(reply.body)


def everything_below(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
