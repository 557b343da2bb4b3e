"""The invitation as one string that a person can paste: where to go, whom to trust, a secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared_model.errors import SmrfedError
from shared_model.plan import Sha256, SiteName

_PREFIX = "smrfed1-"
_CHECK_BYTES = 6
_MAX_TEXT = 4096
SECRET_BYTES = 32

Address = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:]+\]):\d{1,5}$")
]
Secret = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class JoinToken(BaseModel):
    """One invitation; the secret is good for one site, once, until ``expires_at``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: Address = Field(description="host:port of the coordinator, reached over TLS")
    authority_sha256: Sha256 = Field(description="digest of the CA's certificate (DER)")
    secret: Secret = Field(repr=False, description="32 random bytes in hexadecimal digits")
    site: SiteName
    expires_at: int = Field(ge=0, lt=2**40, description="seconds since 1970, UTC")

    @classmethod
    def issue(cls, address: str, authority_sha256: str, site: str, valid_s: int) -> JoinToken:
        """A token with a fresh secret, valid for so many seconds from now."""
        return cls(
            address=address,
            authority_sha256=authority_sha256,
            secret=secrets.token_hex(SECRET_BYTES),
            site=site,
            expires_at=int(time.time()) + valid_s,
        )

    @property
    def secret_sha256(self) -> str:
        """What the registry keeps of the secret."""
        return secret_digest(self.secret)

    def encode(self) -> str:
        """The string; six bytes of digest tell a mistyped or cut one from a good one."""
        data = {
            "a": self.address,
            "c": self.authority_sha256,
            "e": self.expires_at,
            "n": self.site,
            "s": self.secret,
        }
        content = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
        return _PREFIX + base64.urlsafe_b64encode(_check(content) + content).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> JoinToken:
        """Read a token; white space from pasting is left out. Raises SMR-E461."""
        compact = "".join(text.split())
        if len(compact) > _MAX_TEXT or not compact.startswith(_PREFIX):
            raise _unreadable(f"a text that begins with {compact[:8]!r}")
        body = compact.removeprefix(_PREFIX)
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            check, content = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
            if check != _check(content):
                raise _unreadable("a token in which characters are missing or were changed")
            said = json.loads(content)
            fields = {"address": "a", "authority_sha256": "c", "expires_at": "e", "site": "n"}
            token = cls(secret=said["s"], **{name: said[key] for name, key in fields.items()})
        except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
            # The words of pydantic may repeat the secret.
            found = "a field is not valid" if isinstance(error, ValidationError) else "no token"
            raise _unreadable(found) from None
        if token.encode() != compact:
            raise _unreadable("a token in another spelling")
        return token

    def require_fresh(self) -> None:
        """Raise SMR-E462 when the token has expired by this machine's clock."""
        if time.time() > self.expires_at:
            raise SmrfedError(
                "SMR-E462",
                f"the token for {self.site!r} has expired",
                expected=f"a time before {_as_date(self.expires_at)}",
                found=_as_date(int(time.time())),
                remedy="check this machine's clock; if it is right, ask the coordinator for a new "
                "token",
            )

    def require_site(self, name: str) -> None:
        """Raise SMR-E462 when the token is for another hospital than ``name``."""
        if name != self.site:
            raise SmrfedError(
                "SMR-E462",
                "the token is for another hospital",
                expected=f"name = {name!r}, as in site.toml",
                found=self.site,
                remedy="correct name in site.toml, or ask the coordinator for a token with the "
                "right name",
            )


def secret_digest(secret: str) -> str:
    """SHA-256 of a token's secret, in hexadecimal digits."""
    return hashlib.sha256(b"smrfed-invitation-v1\0" + secret.encode()).hexdigest()


def _check(content: bytes) -> bytes:
    return hashlib.sha256(b"smrfed-token-v1\0" + content).digest()[:_CHECK_BYTES]


def _as_date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _unreadable(found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E461",
        "the token cannot be read",
        expected=f"one string that begins with {_PREFIX}",
        found=found,
        remedy="copy the whole token, without quotation marks, or ask for a new one",
    )
