"""What ``smrfed-site up`` runs, and what it refuses to start."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Literal

from client.config import SiteConfig
from client.courier import half_sent
from client.enrolment.connection import ConnectionFolder
from client.liveness import agent_hangs, network_hangs
from client.supervisor.commands import (
    agent_command,
    courier_exec_command,
    renewal_command,
    supernode_command,
)
from client.supervisor.lost_connection import LOST
from shared_model.errors import SmrfedError
from shared_model.supervision import safety
from shared_model.supervision.environment import flower_environment
from shared_model.supervision.process_spec import ProcessSpec, ProcessState, ending, numbered_reason
from shared_model.supervision.restart import SUPERNODE, RestartPolicy
from shared_model.supervision.secret_file import ensure_secret

Part = Literal["all", "agent", "network"]

#: The agent may be in the middle of a round: what it can finish it finishes.
_AGENT_GRACE_S = 40.0
_NODE = "SMR-E478"
_REFUSED = "Failed to activate SuperNode"
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_NOT_NOW = ("certificate is not yet valid", "certificate has expired")


def site_specs(config: Path, site: SiteConfig, part: Part) -> tuple[ProcessSpec, ...]:
    """The processes of a hospital, in the order of their start; they end in the reverse order.

    Raises SMR-E460 when the hospital has not joined.
    """
    specs: list[ProcessSpec] = []
    if part != "network":
        specs.append(_agent(config, site))
    if part != "agent":
        specs += _network(site)
    if part == "all":
        # It needs the signing key and the way out, which two accounts do not have together.
        specs.append(_renewal(config, site))
    return tuple(specs)


def check_site(site: SiteConfig, part: Part, now: datetime.datetime) -> None:
    """Refuse an unsafe start, with the reason: SMR-E473, E475, E476 or E477."""
    safety.refuse("SMR-E475", safety.unsafe_environment())
    safety.refuse("SMR-E477", safety.unsafe_clock(now))
    if part != "network":
        key = site.state_dir / "site.key"
        safety.refuse("SMR-E473", safety.unsafe_private_file(key))
    if part != "agent":
        folder = site.connection
        connection = folder.load()
        safety.refuse("SMR-E473", safety.unsafe_private_file(folder.node_key))
        ensure_secret(folder.superexec_secret)
        safety.refuse("SMR-E473", safety.unsafe_private_file(folder.superexec_secret))
        safety.refuse("SMR-E476", safety.unsafe_secret(folder.superexec_secret))
        # The coordinator's own certificate is verified by the SuperNode's TLS at every connection.
        safety.refuse(
            "SMR-E477",
            safety.unsafe_certificate(folder.authority, folder.authority, None, now),
        )
        if connection.superlink.endswith(":80"):
            raise SmrfedError(
                "SMR-E477",
                "the coordinator's address is one of plain HTTP",
                found=connection.superlink,
                expected="a port that speaks TLS, usually 443",
                remedy="ask the coordinator for a token with the right address, and join again",
            )


def log_folders(site: SiteConfig, part: Part) -> tuple[Path, ...]:
    """Where the processes of ``part`` keep logs and states: one supervisor at a time for each."""
    agent, network = site.state_dir / "logs", site.connection.path / "logs"
    return {"all": (agent, network), "agent": (agent,), "network": (network,)}[part]


def state_file(site: SiteConfig, part: Part) -> Path:
    """Where ``up`` writes the states of its processes."""
    folder = site.connection.path if part == "network" else site.state_dir
    return folder / "logs" / "processes.json"


def gave_up(spec: ProcessSpec, state: ProcessState, tail: str) -> SmrfedError:
    """The error when a process has ended for good: SMR-E471."""
    return SmrfedError(
        "SMR-E471",
        f"the process {spec.name!r} has ended for good: {state.detail}",
        expected="a process that stays",
        found=f"{ending(state.exit_status)}; the end of its log:\n{tail}",
        remedy=f"settle what the log says ({spec.log}), then start smrfed-site up again",
    )


def explain_node(log: str) -> str | None:
    """What the end of a SuperNode's log means, where a person can do something."""
    for found in _NOT_NOW:
        if found in log:
            return (
                f"{_NODE} the coordinator's {found} by this machine's clock: set the clock right; "
                "if it is, tell the coordinator"
            )
    if _UNTRUSTED in log:
        return (
            f"{_NODE} the coordinator's certificate is not from the authority that was pinned: "
            "somebody is in between, or the coordinator has a new authority (join again)"
        )
    if _REFUSED in log:
        return (
            f"{_NODE} the coordinator refuses the node key: for up to a minute after a crash; "
            "for longer, the key is not registered or was revoked"
        )
    if LOST in log:
        return (
            f"{_NODE} something that is not the coordinator's service answered at its address (a "
            "proxy's page, an error status): the line before the last one of its log says what"
        )
    return numbered_reason(log)


def _agent(config: Path, site: SiteConfig) -> ProcessSpec:
    return ProcessSpec(
        "agent",
        agent_command(config),
        site.state_dir / "logs" / "agent-output.log",
        dict(os.environ),
        restart=RestartPolicy(first_s=2.0, cap_s=300.0, give_up_after=8),
        stop_grace_s=_AGENT_GRACE_S,
        ready=site.socket.is_socket,
        answers=lambda: not agent_hangs(site),
    )


def _renewal(config: Path, site: SiteConfig) -> ProcessSpec:
    return ProcessSpec(
        "renewal",
        renewal_command(config),
        site.state_dir / "logs" / "renewal.log",
        dict(os.environ),
        restart=RestartPolicy(first_s=30.0, cap_s=3600.0, give_up_after=None),
        essential=False,
    )


def _network(site: SiteConfig) -> tuple[ProcessSpec, ...]:
    folder: ConnectionFolder = site.connection
    connection = folder.load()
    logs = folder.path / "logs"
    environment = flower_environment(folder.path / "flower", _way_out(site, connection.superlink))
    node = supernode_command(folder, connection.superlink, site.node_port, site.socket)
    return (
        ProcessSpec("node", node, logs / "node.log", environment, restart=SUPERNODE,
                    explain=explain_node, answers=lambda: not network_hangs(site),
                    stuck=lambda: half_sent.abandoned(folder.path),
                    before_start=lambda: half_sent.forget(folder.path)),
        ProcessSpec("courier", courier_exec_command(folder, site.node_port),
                    logs / "courier.log", environment),
    )  # fmt: skip


def _way_out(site: SiteConfig, superlink: str) -> dict[str, str]:
    """This environment, with the proxy that ``[network]`` of site.toml names."""
    network = getattr(site, "network", None)
    named = {} if network is None else network.environment(superlink.rpartition(":")[0])
    return {**os.environ, **named}
