"""Whether the coordinator's SuperLink answers, for a container's health check.

Run as ``python -m server.liveness`` (folder: ``SMRFED_HOME``, default the current one). Exit status
0: it answers on loopback with a certificate of our authority; 1 otherwise, with the reason.
"""

from __future__ import annotations

import os
import ssl
import sys
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from server.config import CoordinatorFolder
from shared_model.errors import SmrfedError

_TIMEOUT_S = 8.0


def problem(home: CoordinatorFolder) -> str | None:
    """What keeps the SuperLink of this folder from answering, or None."""
    try:
        trusted = ssl.create_default_context(cafile=str(home.authority))
        port = home.config.superlink_port
        connection = HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_S, context=trusted)
        try:
            connection.request("GET", "/health")
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, HTTPException, SmrfedError) as error:
        return str(error) or type(error).__name__
    return None if status == 200 else f"HTTP status {status}"


def main() -> None:
    """Say what is wrong, if anything, and end with the exit status."""
    found = problem(CoordinatorFolder(Path(os.environ.get("SMRFED_HOME", "."))))
    if found is not None:
        sys.exit(f"the SuperLink does not answer: {found}")


if __name__ == "__main__":
    main()
