"""X25519 keys of a block: from derived seeds, and from peers, of whom no weak key is taken."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from shared_model.errors import SmrfedError

KEY_BYTES = 32
_P = 2**255 - 19
# u of the points of order 1, 2, 4 and 8, on the curve and its twist (RFC 7748, section 6.1;
# cr.yp.to/ecdh.html): with them both ends agree on zero, whatever the other's key is.
_LOW_ORDER = frozenset(
    {
        0,
        1,
        _P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


def private_key(seed: bytes) -> X25519PrivateKey:
    """The key of 32 derived bytes."""
    return X25519PrivateKey.from_private_bytes(seed)


def public_bytes(key: X25519PrivateKey) -> bytes:
    """What is advertised: 32 bytes."""
    return key.public_key().public_bytes_raw()


def require_public(raw: bytes, owner: str) -> None:
    """Refuse what is no public key that an honest site makes; raises SMR-E131.

    32 bytes, below the field's prime (one spelling per point), and not of low order.
    """
    u = int.from_bytes(raw, "little")
    if len(raw) != KEY_BYTES or u >= _P or u in _LOW_ORDER:
        raise SmrfedError(
            "SMR-E131",
            f"a public key of {owner!r} would agree on a secret that everybody knows",
            expected="32 bytes, an X25519 point of high order in its one spelling",
            found=raw[:KEY_BYTES].hex(),
            remedy="no honest site sends this: leave the site out, and ask its people",
        )


def agree(own: X25519PrivateKey, peer: bytes) -> bytes:
    """The 32 bytes that only the two holders know; ``peer`` has passed :func:`require_public`."""
    return own.exchange(X25519PublicKey.from_public_bytes(peer))
