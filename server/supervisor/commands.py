"""The commands of the coordinator's processes, for the supervisor and a federation on one machine.

No command holds a secret: keys and the shared secret are named by their files.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from shared_model.supervision.environment import command


@dataclass(frozen=True)
class SuperLinkFiles:
    """What a SuperLink reads and writes."""

    authority: Path
    certificate: Path
    key: Path
    database: Path
    secret: Path


def superlink_command(files: SuperLinkFiles, port: int) -> tuple[str, ...]:
    """The SuperLink: loopback only, TLS, node authentication, tasks only for who has the secret."""
    return (
        command("flower-superlink"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-ca-certfile", str(files.authority)),
        *("--ssl-certfile", str(files.certificate)),
        *("--ssl-keyfile", str(files.key)),
        "--enable-supernode-auth",
        *("--database", str(files.database)),
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(files.secret)),
        "--disable-runtime-dependency-installation",
    )


def superexec_command(files: SuperLinkFiles, port: int) -> tuple[str, ...]:
    """The SuperExec that starts our installed ServerApp and nothing else."""
    return (
        *(sys.executable, "-P", "-m", "server.supervisor.superexec"),
        *("--runtime-api-address", f"127.0.0.1:{port}"),
        *("--root-certificates", str(files.authority)),
        *("--superexec-auth-secret-file", str(files.secret)),
    )
