"""What must hold before a process that keeps secrets is started; each check says what is wrong."""

from __future__ import annotations

import datetime
import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from shared_model.errors import SmrfedError
from shared_model.supervision.environment import forced_on

MIN_SECRET_BYTES = 32
#: No clock that is right shows an earlier time: this code did not exist then.
_EARLIEST = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
_LATEST = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
_LEAP = datetime.timedelta(minutes=10)


@dataclass(frozen=True)
class Unsafe:
    """Why a start is refused: what was found, and what would do."""

    what: str
    found: str
    expected: str
    remedy: str


def unsafe_environment(given: Mapping[str, str] | None = None) -> Unsafe | None:
    """Variables that switch on what must stay off: telemetry, updates, installs, second doors."""
    found = forced_on(given)
    if not found:
        return None
    return Unsafe(
        "the environment asks Flower to report, update or install, or to open a second door",
        ", ".join(found),
        "none of these variables: smrfed switches all of it off",
        f"unset {', '.join(item.partition('=')[0] for item in found)} and start again",
    )


def unsafe_private_file(path: Path) -> Unsafe | None:
    """A key or secret that others than its owner can read or replace; missing counts too."""
    expected = "a file of the account that starts this, mode 0600"
    try:
        facts = path.lstat()
    except OSError as error:
        return Unsafe(f"cannot find {path}", str(error), expected, "restore it from the backup")
    if not stat.S_ISREG(facts.st_mode):
        return Unsafe(f"{path} is no ordinary file", "a link or a special file", expected,
                      "put the file itself there")  # fmt: skip
    if facts.st_mode & 0o077:
        mode = f"mode {stat.S_IMODE(facts.st_mode):04o}"
        return Unsafe(f"others can read {path}", mode, expected,
                      f"chmod 600 {path}; if others could log in here, make a new one")  # fmt: skip
    if facts.st_uid != os.geteuid():
        return Unsafe(f"{path} belongs to another account", f"user id {facts.st_uid}", expected,
                      f"start with that account, or: chown {os.geteuid()} {path}")  # fmt: skip
    folder = path.parent.stat().st_mode
    if folder & stat.S_IWOTH and not folder & stat.S_ISVTX:
        mode = f"folder mode {stat.S_IMODE(folder):04o}"
        return Unsafe(f"everybody can replace {path}", mode, "a folder that only its owner writes",
                      f"chmod 700 {path.parent}")  # fmt: skip
    return None


def unsafe_secret(path: Path) -> Unsafe | None:
    """A shared secret that can be guessed: Flower itself takes a single byte."""
    content = path.read_bytes()
    if len(content) >= MIN_SECRET_BYTES and len(set(content)) >= 8:
        return None
    return Unsafe(
        f"the secret in {path} can be guessed",
        f"{len(content)} bytes, {len(set(content))} different ones",
        f"at least {MIN_SECRET_BYTES} random bytes",
        f"delete {path}: the next start makes a new one",
    )


def unsafe_clock(now: datetime.datetime, *, not_before: datetime.datetime | None = None,
                 newest: datetime.datetime | None = None) -> Unsafe | None:  # fmt: skip
    """A clock that cannot be right.

    ``not_before``: start of a certificate's validity; ``newest``: the last time that was written
    down here. Sites and coordinator must agree within five minutes, or their nodes are refused.
    """
    limits = [_EARLIEST, *(limit - _LEAP for limit in (not_before, newest) if limit is not None)]
    if max(limits) <= now < _LATEST:
        return None
    return Unsafe(
        "this machine's clock cannot be right",
        now.isoformat(timespec="seconds"),
        f"a time after {max(limits).isoformat(timespec='seconds')}",
        "set the clock, and let the machine follow a time server (chrony, systemd-timesyncd)",
    )


def unsafe_certificate(
    certificate: Path, authority: Path, host: str | None, now: datetime.datetime
) -> Unsafe | None:
    """A TLS certificate that is over, for another host, or of another authority."""
    remedy = "smrfed-coordinator renew makes a new one; no hospital has to do anything"
    try:
        own = x509.load_pem_x509_certificate(certificate.read_bytes())
        issuer = x509.load_pem_x509_certificate(authority.read_bytes())
    except (OSError, ValueError) as error:
        return Unsafe(f"cannot read the certificate {certificate}", str(error),
                      "a certificate and its authority's, in PEM", remedy)  # fmt: skip
    for name, one in (("certificate", own), ("authority's certificate", issuer)):
        begin, end = one.not_valid_before_utc, one.not_valid_after_utc
        if not begin - _LEAP <= now < end:
            return Unsafe(
                f"the {name} in {certificate.parent} is not valid now",
                f"valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC",
                f"valid at {now:%Y-%m-%d %H:%M} UTC",
                remedy,
            )
    try:
        own.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        return Unsafe(f"{certificate} was not issued by {authority}", str(error) or "wrong issuer",
                      "a certificate of this authority", remedy)  # fmt: skip
    if host is not None and host not in _names(own):
        return Unsafe(f"{certificate} is not for the host that sites connect to",
                      ", ".join(sorted(_names(own))) or "no names", host, remedy)  # fmt: skip
    return None


def is_loopback(host: str) -> bool:
    """Whether an address or name can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {
        *found.get_values_for_type(x509.DNSName),
        *(str(address) for address in found.get_values_for_type(x509.IPAddress)),
    }


def refuse(code: str, unsafe: Unsafe | None) -> None:
    """Raise the error with this number where a check found something."""
    if unsafe is not None:
        raise SmrfedError(
            code,
            f"not started: {unsafe.what}",
            expected=unsafe.expected,
            found=unsafe.found,
            remedy=unsafe.remedy,
        )
