"""A federation of the secure aggregation in one process: real sealed replies, real bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared_model.protocol.arrays import body_digest
from shared_model.protocol.sealed import Sealed, seal
from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.coordinator import BlockSetup, RoundSum
from shared_model.secure_aggregation.messages import (
    MaskedVector,
    UnmaskQuestion,
    decode_advertisements,
    encode_advertisements,
    encode_shares,
)
from shared_model.secure_aggregation.signed import KeysReply
from shared_model.secure_aggregation.site import SiteSession
from shared_model.secure_aggregation.site_keys import SiteKeys

Vector = npt.NDArray[np.uint64]


def names(count: int) -> tuple[str, ...]:
    return tuple(f"site-{number:02d}" for number in range(count))


def signing_key(site: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(site.encode()).digest())


def block_of(
    sites: int,
    threshold: int,
    min_survivors: int,
    *,
    rounds: int = 2,
    first_round: int = 1,
    run_id: str = "run",
    plan: str = "1" * 64,
) -> Block:
    keys = {site: signing_key(site).public_key().public_bytes_raw() for site in names(sites)}
    return Block(run_id, plan, first_round, rounds, keys, threshold, min_survivors)


def secret_of(site: str, seed: int = 0) -> bytes:
    return hashlib.sha256(f"{site} {seed}".encode()).digest()


def keys_reply(block: Block, site: str, body: bytes, **other: object) -> Sealed:
    """A site's sealed reply of kind ``keys``."""
    header = KeysReply.model_validate(
        {
            "run_id": block.run_id,
            "round": block.first_round,
            "kind": "keys",
            "site": site,
            "plan_digest": block.plan_digest,
            "body_sha256": body_digest(body),
            "instruction_sha256": "2" * 64,
        }
        | other
    )
    return seal(header.canonical_json, body, signing_key(site))


def vectors(sites: Collection[str], numbers: int, seed: int) -> dict[str, Vector]:
    rng = np.random.default_rng(seed)
    whole = np.iinfo(np.uint64)
    return {
        site: rng.integers(whole.min, whole.max, numbers, dtype=np.uint64, endpoint=True)
        for site in sorted(sites)
    }


def plain_sum(values: Mapping[str, Vector], sites: Collection[str]) -> npt.NDArray[np.int64]:
    """By Python's integers, which do not wrap: reduced once, at the end."""
    columns = zip(*(values[site].tolist() for site in sites), strict=True)
    total = [sum(column) % 2**64 for column in columns]
    return np.array(total, dtype=np.uint64).view(np.int64)


@dataclass
class Masked:
    """A block after its set-up, and what the coordinator saw of each round, as bytes."""

    block: Block
    seed: int = 0
    setup: BlockSetup = field(init=False)
    sessions: dict[str, SiteSession] = field(default_factory=dict)
    share_bodies: dict[str, bytes] = field(default_factory=dict)
    transcript: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.setup = BlockSetup(self.block)

    def agree(self, present: Collection[str], sharing: Collection[str] | None = None) -> Masked:
        for site in present:
            body = SiteKeys(self.block, site, secret_of(site, self.seed)).advertisement().encode()
            self.setup.add_advertisement(site, keys_reply(self.block, site, body))
        question = encode_advertisements(self.setup.relayed())
        self.transcript["advertisements"] = question
        for site in present if sharing is None else sharing:
            relayed = decode_advertisements(question, self.block)
            secret = secret_of(site, self.seed)
            self.sessions[site] = SiteSession.open(self.block, site, secret, relayed)
            body = encode_shares(self.sessions[site].encrypted_shares())
            self.setup.add_shares(site, body)
            self.transcript[f"shares {site}"] = body
        return self

    def begin(self, number: int, maskers: tuple[str, ...], numbers: int) -> RoundSum:
        return RoundSum(self.setup, number, maskers, numbers)

    def masked(self, total: RoundSum, number: int, site: str, vector: Vector) -> bytes:
        """The body of the site's ``train`` reply."""
        own = vector.copy()
        signature = self.sessions[site].mask(own, number, total.order, signing_key(site))
        body = MaskedVector(own, signature).encode()
        self.transcript[f"vector {number} {site}"] = body
        return body

    def answer(self, total: RoundSum, number: int, site: str) -> bytes:
        """The body of the site's ``unmask`` reply."""
        order = total.close()
        question = UnmaskQuestion.decode(total.question(site).encode(), order, site)
        reply = self.sessions[site].unmask(number, total.order, order, question).encode()
        self.transcript[f"answer {number} {site}"] = reply
        return reply

    def round(
        self,
        number: int,
        values: Mapping[str, Vector],
        maskers: tuple[str, ...],
        sending: Collection[str],
        answering: Collection[str],
    ) -> RoundSum:
        """All of a round but the opening."""
        total = self.begin(number, maskers, next(iter(values.values())).size)
        for site in sending:
            total.add(site, self.masked(total, number, site, values[site]))
        for site in answering:
            total.add_answer(site, self.answer(total, number, site))
        return total
