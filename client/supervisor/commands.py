"""The commands of a hospital's processes, for the supervisor and for a federation on one machine.

No command holds a secret: keys and the shared secret are named by their files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from client.enrolment.connection import ConnectionFolder
from shared_model.supervision.environment import command


def agent_command(config: Path) -> tuple[str, ...]:
    """The site agent, in the foreground; it waits where no plan is accepted yet."""
    return (command("smrfed-site"), "run", "--wait", "--config", str(config.absolute()))


def renewal_command(config: Path) -> tuple[str, ...]:
    """Asks the coordinator once a day for what is new."""
    return (command("smrfed-site"), "renew", "--daily", "--config", str(config.absolute()))


def supernode_command(
    folder: ConnectionFolder, superlink: str, port: int, socket: Path
) -> tuple[str, ...]:
    """The SuperNode: outbound TLS to ``superlink``, and a loopback port for its SuperExec."""
    return (
        *(sys.executable, "-P", "-m", "client.supervisor.supernode", "flower-supernode"),
        *("--superlink", superlink),
        *("--root-certificates", str(folder.authority)),
        *("--auth-supernode-private-key", str(folder.node_key)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(folder.superexec_secret)),
        *("--node-config", f'socket="{socket}"'),
    )


def courier_exec_command(folder: ConnectionFolder, port: int) -> tuple[str, ...]:
    """The SuperExec that starts the pinned courier and nothing else."""
    return (
        *(sys.executable, "-P", "-m", "client.courier.superexec", str(folder.path)),
        *("--runtime-api-address", f"127.0.0.1:{port}", "--insecure"),
        *("--superexec-auth-secret-file", str(folder.superexec_secret)),
    )
