"""What one site must be able to check that another site said: relayed with its own signature.

An advertisement is relayed as the site's whole sealed ``keys`` reply; which sites a vector was
masked for, as a signature over that list beside the vector, since 64 bytes can be relayed and a
vector cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field

from shared_model.errors import SmrfedError
from shared_model.plan import Sha256
from shared_model.protocol.messages import AnyHeader, decode_header
from shared_model.protocol.sealed import SIGNATURE_BYTES, Sealed
from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.messages import KeyAdvertisement, unexpected

_LENGTH_BYTES = 4
_MOST_HEADER_BYTES = 4096
_MASKED_FOR = b"smrfed-masked-for-v1\0"


class KeysReply(AnyHeader):
    """The header of a reply of kind ``keys``: the bytes of a ``RoundReply`` without metrics.

    ``round`` is the first of the block.
    """

    kind: Literal["keys"]
    instruction_sha256: Sha256
    metrics: dict[str, float] = Field(default_factory=dict, max_length=0)


def pack(reply: Sealed) -> bytes:
    """A sealed reply as one string of bytes: lengths, header, body, signature."""
    lengths = (len(part).to_bytes(_LENGTH_BYTES, "big") for part in (reply.header, reply.body))
    return b"".join((*lengths, reply.header, reply.body, reply.signature))


def unpack(packed: bytes, block: Block) -> Sealed:
    """The reply again; raises SMR-E119 for bytes that :func:`pack` does not make of one."""
    start = 2 * _LENGTH_BYTES
    header = int.from_bytes(packed[:_LENGTH_BYTES], "big")
    body = int.from_bytes(packed[_LENGTH_BYTES:start], "big")
    most = KeyAdvertisement.body_bytes(block)
    if (
        len(packed) != start + header + body + SIGNATURE_BYTES
        or header > _MOST_HEADER_BYTES
        or body > most
    ):
        raise unexpected("a relayed reply", f"header and a body of at most {most} bytes", packed)
    end = start + header
    return Sealed(packed[start:end], packed[end : end + body], packed[end + body :])


def read_advertisement(reply: Sealed, site: str, block: Block) -> KeyAdvertisement:
    """What ``site`` advertised for this block, checked as if the relay were hostile.

    Raises SMR-E130 when the plan has no such site or the reply is another site's, run's, plan's or
    block's; SMR-E113, SMR-E116, SMR-E117 (signature, header, body), SMR-E119 and SMR-E131 (keys).
    """
    require_member(site, block)
    reply.verify(Ed25519PublicKey.from_public_bytes(block.signing_keys[site]), site)
    header = decode_header(KeysReply, reply)
    said = (header.run_id, header.plan_digest, header.round, header.site)
    meant = (block.run_id, block.plan_digest, block.first_round, site)
    if said != meant:
        raise misplaced(f"the keys of {site!r}", meant, said)
    return KeyAdvertisement.decode(reply.body, block, site)


def confirm(
    block: Block, round_number: int, maskers: Sequence[str], site: str, key: Ed25519PrivateKey
) -> bytes:
    """The site's signature over which sites its vector of this round was masked for."""
    return key.sign(_masked_for(block, round_number, maskers, site))


def require_confirmed(
    block: Block, round_number: int, maskers: Sequence[str], site: str, signature: bytes
) -> None:
    """Raise SMR-E136 unless ``site`` says that it masked its vector for just these ``maskers``."""
    require_member(site, block)
    key = Ed25519PublicKey.from_public_bytes(block.signing_keys[site])
    try:
        key.verify(signature, _masked_for(block, round_number, maskers, site))
    except InvalidSignature:
        raise SmrfedError(
            "SMR-E136",
            f"nothing proves that {site!r} masked its vector for the sites of this round",
            expected=f"its signature over round {round_number} and {len(maskers)} sites",
            found="none" if not signature else "a signature over something else",
            remedy="no sum is opened; the coordinator told sites different lists, or the site "
            "answered another one: start the coordinator again, then ask both sides' people",
        ) from None


def require_member(site: str, block: Block) -> None:
    """Raise SMR-E130 when the accepted plan has no such site."""
    if site not in block.signing_keys:
        raise misplaced("a message", f"a site of the plan: {', '.join(block.sites)}", site[:80])


def misplaced(what: str, expected: object, found: object) -> SmrfedError:
    """A message that belongs to another run, plan, block, round or site."""
    return SmrfedError(
        "SMR-E130",
        f"{what} does not belong to this exchange of the secure aggregation",
        expected=expected,
        found=found,
        remedy="a message was mixed up or replayed: nothing was taken from it; if it repeats, "
        "refuse the sender",
    )


def _masked_for(block: Block, round_number: int, maskers: Sequence[str], site: str) -> bytes:
    return _MASKED_FOR + block.context("masked for", round_number, site, *sorted(maskers))
