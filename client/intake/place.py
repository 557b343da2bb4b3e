"""The folder that an intake writes: nobody else's, and one intake at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.agent.durable import make_private_folder
from client.intake.bids_writer import cannot_write, check_ours
from shared_model.errors import SmrfedError


def check_places(source: Path, target: Path) -> None:
    """Raise SMR-E264 unless ``target`` is free or an intake's own, and apart from ``source``."""
    check_ours(target)
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise SmrfedError(
            "SMR-E264",
            f"the folder {target} is not free for the converted scans",
            expected="a state_dir outside the folder of the DICOM files",
            found=f"one lies within the other: {source}",
            remedy="set state_dir in site.toml to a folder elsewhere",
        )


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Hold the intake's lock; the system releases it however the process ends."""
    try:
        make_private_folder(target.parent)
        lock = os.open(
            target.with_name(f".{target.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise cannot_write(target.parent, error) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SmrfedError(
                "SMR-E265",
                "another intake is converting into the same folder",
                expected="one at a time",
                found=str(target),
                remedy="wait until it has ended, then start again: what is done is kept",
            ) from None
        yield
    finally:
        os.close(lock)
