"""Whether a part of a hospital answers, for a container's health check.

Run as ``python -m client.liveness agent|network [site.toml]``. Exit status 0: the agent answers on
its socket, or the SuperNode on its loopback port; 1 otherwise, with the reason.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from client.config import SiteConfig
from shared_model.errors import SmrfedError

_TIMEOUT_S = 8.0


def agent_problem(site: SiteConfig) -> str | None:
    """What keeps the agent from answering, or None; it answers while it trains as well."""
    from client.agent.stub import AgentClient

    try:
        with AgentClient(site.socket) as agent:
            agent.status(_TIMEOUT_S)
    except SmrfedError as error:
        return str(error)
    return None


def network_problem(site: SiteConfig) -> str | None:
    """What keeps the SuperNode from answering, or None."""
    connection = HTTPConnection("127.0.0.1", site.node_port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return None if status == 200 else f"HTTP status {status}"


def agent_hangs(site: SiteConfig) -> bool:
    """Whether it lets a question wait; one that is not there, or has no place free, does not."""
    from client.agent.stub import AgentClient

    try:
        with AgentClient(site.socket) as agent:
            agent.status(_TIMEOUT_S)
    except SmrfedError as error:
        return str(error.found).startswith("DEADLINE_EXCEEDED")
    return False


def network_hangs(site: SiteConfig) -> bool:
    """Whether the SuperNode takes a connection and then says nothing."""
    connection = HTTPConnection("127.0.0.1", site.node_port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        connection.getresponse()
    except TimeoutError:
        return True
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return False


def main() -> None:
    """Say what is wrong, if anything, and end with the exit status."""
    parts = {"agent": agent_problem, "network": network_problem}
    part, *rest = sys.argv[1:] or [""]
    if part not in parts or len(rest) > 1:
        sys.exit("usage: python -m client.liveness agent|network [site.toml]")
    try:
        found = parts[part](SiteConfig.load(Path(rest[0] if rest else "site.toml")))
    except SmrfedError as error:
        found = str(error)
    if found is not None:
        sys.exit(f"the {part} does not answer: {found}")


if __name__ == "__main__":
    main()
