"""A task's token on standard input: on a command line, every user of the machine could read it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

_MAX_BYTES = 4096


def start_with_token(command: Sequence[str], token: str) -> subprocess.Popen[bytes]:
    """Start ``command`` with the token as the only line of its standard input.

    Its output goes where this process's output goes. Raises OSError when it cannot be started.
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    try:
        process.stdin.write(token.encode() + b"\n")
        process.stdin.close()
    except BrokenPipeError:
        # It ended at once; whoever gave the task sees it by its missing heartbeat.
        process.wait()
    return process


def read_token() -> str:
    """The token that :func:`start_with_token` wrote; raises ValueError when there is none."""
    token = sys.stdin.buffer.readline(_MAX_BYTES).decode("ascii").strip()
    if not token:
        raise ValueError("no token on standard input")
    return token
