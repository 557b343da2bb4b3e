"""Free space, free file entries, and whether the state folder can be written at all."""

from __future__ import annotations

import os
import shutil
import tempfile

from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError

# Prepared scans are float16; two scans per patient are assumed, a few files each.
_BYTES_PER_VOXEL_AND_PATIENT = 4
_SPARE_BYTES = 1 << 30
_FILES_PER_PATIENT = 30
_SPARE_FILES = 2000


def check_space(site: CheckedSite) -> str:
    """Room for the plan's scans and the records; raises SMR-E422."""
    folder = site.existing_folder
    free = shutil.disk_usage(folder).free
    needed = _SPARE_BYTES
    if (plan := site.plan) is not None:
        x, y, z = plan.input.grid.shape
        needed += x * y * z * _BYTES_PER_VOXEL_AND_PATIENT * _declared(site)
    if free < needed:
        raise SmrfedError(
            "SMR-E422",
            f"too little disk space below {folder}",
            expected=f"{needed / 1e9:.1f} GB free",
            found=f"{free / 1e9:.1f} GB",
            remedy="free space, or set state_dir to a larger file system",
        )
    return f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed"


def check_writable(site: CheckedSite) -> str:
    """Write a file, and count the free file entries (inodes); raises SMR-E442."""
    folder = site.existing_folder
    facts = os.statvfs(folder)
    needed = _SPARE_FILES + _FILES_PER_PATIENT * _declared(site)
    # File systems that make inodes as they need them say 0 of 0.
    if facts.f_files and facts.f_favail < needed:
        raise _unusable(
            folder, f"{needed} free file entries (inodes)", f"{facts.f_favail}; see df -i"
        )
    try:
        with tempfile.NamedTemporaryFile(prefix=".smrfed-check-", dir=folder) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        read_only = facts.f_flag & os.ST_RDONLY
        found = "the file system is mounted read-only" if read_only else error
        raise _unusable(folder, "a folder that this account can write to", found) from None
    entries = f"{facts.f_favail} file entries free" if facts.f_files else "no limit on files"
    return f"{folder} is writable, {entries}"


def _declared(site: CheckedSite) -> int:
    """Patients that the plan expects here; none where it does not know this hospital."""
    sites = () if site.plan is None else site.plan.federation.sites
    return sum(entry.declared_patients for entry in sites if entry.name == site.config.name)


def _unusable(folder: object, expected: str, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E442",
        f"the state folder's file system cannot be used: {folder}",
        expected=expected,
        found=found,
        remedy="mount it for writing, give the folder to the account that runs smrfed-site, or set "
        "state_dir in site.toml to another file system",
    )
