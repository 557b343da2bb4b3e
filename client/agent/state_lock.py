"""One agent per state folder: the ledger and the stored answers have one writer."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from client.agent.durable import make_private_folder
from shared_model.errors import SmrfedError


class StateLock:
    """Holds ``state_dir/agent.lock`` until :meth:`release`; the kernel frees it after a kill.

    Raises SMR-E408 when another agent holds it.
    """

    def __init__(self, state_dir: Path) -> None:
        make_private_folder(state_dir)
        path = state_dir / "agent.lock"
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            self.release()
            raise SmrfedError(
                "SMR-E408",
                f"another site agent uses the state folder {state_dir}",
                expected="one agent per state folder",
                found=f"process {owner or 'unknown'}",
                remedy="stop that agent, or give this one a state_dir of its own",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    @property
    def held(self) -> bool:
        """Whether the folder is still ours."""
        return self._descriptor is not None

    def release(self) -> None:
        """Give the folder free; harmless when called again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
