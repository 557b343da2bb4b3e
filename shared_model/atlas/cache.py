"""Where things that can be rebuilt are kept between runs, each under the digest of its recipe."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CACHE_VARIABLE = "SMRFED_CACHE"


def cache_dir() -> Path:
    """The folder named by ``SMRFED_CACHE``, else ``smrfed`` in the platform's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "smrfed"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "smrfed" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "smrfed"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the whole of it or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def store_arrays(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Keep named arrays in the cache; a cache that cannot be written is no error."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    try:
        write_atomically(cache_dir() / name, buffer.getvalue())
    except OSError:
        return


def load_arrays(name: str) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays kept under a name, or None where they are absent or damaged."""
    try:
        with np.load(cache_dir() / name, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
