"""The coordinator's certificate, keys and registry: valid, private, readable."""

from __future__ import annotations

import datetime
import os
import stat

from cryptography import x509

from server.config import CoordinatorFolder
from server.enrolment.registry import Registry
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note, NotLookedAt
from shared_model.protocol.keys import fingerprint, load_signing_key
from shared_model.supervision import safety

_SOON = datetime.timedelta(days=30)


def check_certificate(home: CoordinatorFolder) -> str:
    """The server's certificate and its authority's, for the public host; raises SMR-E701."""
    now = datetime.datetime.now(datetime.UTC)
    host = home.config.public_host
    unsafe = safety.unsafe_certificate(home.certificate, home.authority, host, now)
    safety.refuse("SMR-E701", unsafe)
    ends = {
        name: x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        for name, path in (("certificate", home.certificate), ("authority", home.authority))
    }
    text = f"for {host}, " + ", ".join(f"{n}: {(end - now).days} days" for n, end in ends.items())
    if min(ends.values()) - now < _SOON:
        return Note(f"{text} left: smrfed-coordinator renew")
    return f"{text} left"


def check_signing_key(home: CoordinatorFolder) -> str:
    """The key that signs instructions; raises SMR-E118."""
    return fingerprint(load_signing_key(home.signing_key).public_key())


def check_modes(home: CoordinatorFolder) -> str:
    """Keys, secret, registry and folders, all together; raises SMR-E702."""
    keys = (
        *(home.signing_key, home.certificate_key, home.authority_key),
        *(home.superexec_secret, home.registry),
    )
    files = [path for path in keys if path.exists()]
    found = [unsafe for path in files if (unsafe := safety.unsafe_private_file(path))]
    wrong = [f"{unsafe.what} ({unsafe.found})" for unsafe in found]
    wrong += [
        f"{folder} can be written by others"
        for folder in (home.path, home.superlink_database.parent)
        if folder.is_dir() and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ]
    if wrong:
        raise SmrfedError(
            "SMR-E702",
            "keys or folders of the coordinator are open to others",
            expected="files of mode 0600 in folders of mode 0700, of the account that runs this",
            found="; ".join(wrong),
            remedy="chmod and chown them, and ask who could read them until now; "
            "smrfed-coordinator rotate replaces a key that others had",
        )
    text = f"{len(files)} keys and secrets are closed to others"
    return Note(f"{text}; the check runs as root") if os.geteuid() == 0 else text


def check_registry(home: CoordinatorFolder) -> str:
    """The registry opens, and who is in it; raises SMR-E592."""
    if not home.registry.exists():
        raise NotLookedAt("no registry yet: smrfed-coordinator init makes it")
    sites = Registry(home.registry).sites()
    states = [site.state for site in sites]
    shown = ", ".join(f"{states.count(s)} {s}" for s in ("enrolled", "invited", "revoked"))
    missing = [
        site.name
        for site in sites
        if site.state == "enrolled" and not (home.site_keys / f"{site.name}.pub").exists()
    ]
    if missing:
        raise SmrfedError(
            "SMR-E703",
            "the registry and the keys that runs use do not agree",
            expected="SITE.pub for every enrolled site",
            found=f"none for {', '.join(missing)}",
            remedy="restore the folder site-keys from the backup; it belongs to the registry",
        )
    return f"sites: {shown}"
