"""One supervisor per folder: a second one would fight for ports, sockets and databases."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shared_model.errors import SmrfedError

_FREED_S = 10.0


@contextmanager
def only_one(folders: tuple[Path, ...], code: str, command: str) -> Iterator[None]:
    """Hold ``up.lock`` of each folder; raises the numbered error while another process does.

    The kernel frees the lock when its holder ends, however it ends.
    """
    with ExitStack() as stack:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(folder / "up.lock", flags, 0o600)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SmrfedError(
                    code,
                    f"{command} runs already for this folder",
                    found=f"{folder / 'up.lock'} is held by another process",
                    remedy=f"nothing to do where it should run; else end the other one (SIGTERM), "
                    f"then say {command} again",
                ) from None
        yield


def require_free_port(port: int, code: str, setting: str, patience_s: float = _FREED_S) -> None:
    """Return when nobody listens on a port of loopback; raises the numbered error otherwise.

    What a supervisor that was killed has left ends within seconds, so these are waited for.
    """
    deadline = time.monotonic() + patience_s
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if time.monotonic() < deadline:
                    time.sleep(0.5)
                    continue
                raise SmrfedError(
                    code,
                    f"the port {port} of this machine is taken by another program",
                    expected=f"a free port on 127.0.0.1 ({setting})",
                    found=error,
                    remedy=f"end that program (`ss -ltnp` names it), or set another {setting}",
                ) from None
        return
