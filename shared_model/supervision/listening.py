"""On which addresses a few processes really listen, as the kernel says it (Linux)."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Collection
from pathlib import Path

_LISTEN = "0A"
_PROC = Path("/proc")


def listening_addresses(groups: Collection[int]) -> frozenset[tuple[str, int]]:
    """``(address, port)`` of every TCP socket on which a process of these groups listens.

    Empty where there is no ``/proc``, and for processes of other accounts.
    """
    wanted = {inode for pid in _members(groups) for inode in _sockets(pid)}
    if not wanted:
        return frozenset()
    return frozenset(
        address
        for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6))
        for inode, address in _listeners(table, family)
        if inode in wanted
    )


def outside_loopback(groups: Collection[int]) -> frozenset[tuple[str, int]]:
    """Those of :func:`listening_addresses` that other machines can reach."""
    return frozenset(
        (host, port)
        for host, port in listening_addresses(groups)
        if not ipaddress.ip_address(host).is_loopback
    )


def _members(groups: Collection[int]) -> list[int]:
    members = []
    try:
        pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return []
    for pid in pids:
        try:
            if os.getpgid(pid) in groups:
                members.append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    return members


def _sockets(pid: int) -> set[str]:
    inodes = set()
    try:
        for entry in (_PROC / str(pid) / "fd").iterdir():
            try:
                target = str(entry.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    except OSError:
        return inodes
    return inodes


def _listeners(table: str, family: socket.AddressFamily) -> list[tuple[str, tuple[str, int]]]:
    found = []
    try:
        lines = (_PROC / "net" / table).read_text().splitlines()[1:]
    except OSError:
        return []
    for line in lines:
        fields = line.split()
        if fields[3] != _LISTEN:
            continue
        host, port = fields[1].split(":")
        # The kernel prints each 32 bits in the machine's own order.
        words = [host[i : i + 8] for i in range(0, len(host), 8)]
        packed = b"".join(struct.pack("=I", int(word, 16)) for word in words)
        found.append((fields[9], (socket.inet_ntop(family, packed), int(port, 16))))
    return found
