"""Whether the ledger is safe on the state folder's file system: local, and SQLite's WAL works."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note

_MOUNTS = Path("/proc/self/mountinfo")
#: Shared over a network: file locks and shared memory between machines do not hold there.
_SERVED = "nfs nfs4 cifs smb3 smbfs smb2 afs ceph glusterfs lustre gpfs beegfs panfs 9p davfs ocfs2"
_USER_SPACE = "ceph sshfs glusterfs s3fs rclone gcsfuse davfs2 juicefs weed"
NETWORK = frozenset(
    [*_SERVED.split(), "gfs2", "orangefs", "pvfs2", *(f"fuse.{n}" for n in _USER_SPACE.split())]
)
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def check_file_system(site: CheckedSite, mounts: Path = _MOUNTS) -> str:
    """Where the ledger will lie, tried with a database of its own; raises SMR-E441."""
    folder = site.existing_folder
    kind = file_system(folder, mounts)
    if kind in NETWORK:
        raise _unsafe(folder, f"the network file system {kind}")
    _try_database(folder)
    if kind in _IN_MEMORY:
        return Note(f"{kind}: everything, the ledger included, is lost when the machine restarts")
    return f"{kind or 'unknown'}, SQLite with WAL works"


def check_archive_place(site: CheckedSite, mounts: Path = _MOUNTS) -> str:
    """What the archive lies on; a network drive is fine there, it is only read."""
    folder = site.config.archive
    if not folder.exists():
        return Note("not there yet")
    kind = file_system(folder, mounts)
    return f"{kind or 'unknown'}{': a network drive, only read' if kind in NETWORK else ''}"


def file_system(path: Path, mounts: Path = _MOUNTS) -> str:
    """The type of the file system that holds ``path``; empty where nothing tells."""
    resolved, best, kind = path.resolve(), -1, ""
    try:
        lines = mounts.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if "-" not in fields[6:]:
            continue
        point = Path(fields[4].replace("\\040", " "))
        depth = len(point.parts)
        # The last of several mounts on one place is the one that is seen.
        if depth >= best and resolved.is_relative_to(point):
            best, kind = depth, fields[fields.index("-", 6) + 1]
    return kind


def _try_database(folder: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix=".smrfed-check-", dir=folder) as place:
            file = Path(place) / "try.sqlite"
            writer, reader = sqlite3.connect(file, timeout=2.0), sqlite3.connect(file, timeout=2.0)
            try:
                (mode,) = writer.execute("PRAGMA journal_mode=WAL").fetchone()
                writer.execute("PRAGMA synchronous=FULL")
                writer.execute("CREATE TABLE t (x)")
                writer.execute("INSERT INTO t VALUES (1)")
                writer.commit()
                seen = reader.execute("SELECT count(*) FROM t").fetchone()
            finally:
                reader.close()
                writer.close()
    except (sqlite3.Error, OSError) as error:
        raise _unsafe(folder, f"SQLite says: {error}") from None
    if mode != "wal" or seen != (1,):
        raise _unsafe(folder, f"journal mode {mode}, another connection saw {seen}")


def _unsafe(folder: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E441",
        f"the privacy ledger is not safe on the file system of {folder}",
        expected="a local file system on which SQLite's write-ahead log works",
        found=found,
        remedy="set state_dir in site.toml to a local disk (ext4, xfs, zfs, btrfs); the archive "
        "may stay on a network drive",
    )
