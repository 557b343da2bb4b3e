"""The coordinator with colluding sites, written out: from every byte that went through it and the
colluders' secrets it makes all keystream seeds that it can.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from masked_federation import Masked, Vector, secret_of

from shared_model.errors import SmrfedError
from shared_model.secure_aggregation.coordinator import RoundSum
from shared_model.secure_aggregation.encryption import ShareCipher
from shared_model.secure_aggregation.keys import agree, private_key
from shared_model.secure_aggregation.masks import Mask, apply_masks
from shared_model.secure_aggregation.messages import UnmaskAnswer, share_of_round
from shared_model.secure_aggregation.shamir import ELEMENT_BYTES, read_share, reconstruct
from shared_model.secure_aggregation.site_keys import SiteKeys, pair_mask, self_mask, takes_off

NUMBERS = 11


def pair_seed(federation: Masked, number: int, one: str, other: str) -> bytes:
    """As only the two themselves can make it."""
    block = federation.block
    own, peer = (SiteKeys(block, site, secret_of(site, federation.seed)) for site in (one, other))
    public = peer.mask_key(number).public_key().public_bytes_raw()
    return pair_mask(own.mask_key(number), one, public, other, block, number)


def own_seed(federation: Masked, number: int, site: str) -> bytes:
    keys = SiteKeys(federation.block, site, secret_of(site, federation.seed))
    return self_mask(keys.self_seed(number), federation.block, number, site)


def seeds_known_to(
    federation: Masked,
    number: int,
    colluders: Collection[str],
    answers: Collection[tuple[str, UnmaskAnswer]],
) -> dict[tuple[str, ...], bytes]:
    """Every keystream seed of the round that the coordinator and ``colluders`` can make.

    Keys: ``(site,)`` of its own mask, ``(site, other)`` sorted of a pair's. ``answers`` are all
    shares that any site gave.
    """
    block, setup = federation.block, federation.setup
    held: dict[tuple[str, str], dict[int, int]] = {}

    def hold(kind: str, owner: str, holder: str, share: bytes) -> None:
        held.setdefault((kind, owner), {})[block.point(holder)] = read_share(share)

    for holder, answer in answers:
        for owner, share in answer.self_shares.items():
            hold("self", owner, holder, share)
        for owner, share in answer.key_shares.items():
            hold("key", owner, holder, share)
    own = {site: SiteKeys(block, site, secret_of(site, federation.seed)) for site in colluders}
    for holder, keys in own.items():
        for owner in set(setup.sharers) - {holder}:
            agreed = agree(keys.share_key(), setup.advertisement(owner).share_key)
            body = share_of_round(setup._shares[owner][holder], block, number)
            plain = ShareCipher(agreed, block, owner, holder).decrypt(number, body)
            hold("self", owner, holder, plain[:ELEMENT_BYTES])
            hold("key", owner, holder, plain[ELEMENT_BYTES:])
    secrets = {
        of: reconstruct(dict(list(shares.items())[: block.threshold]))
        for of, shares in held.items()
        if len(shares) >= block.threshold
    }
    mask_keys = {owner: private_key(s) for (kind, owner), s in secrets.items() if kind == "key"}
    mask_keys |= {site: keys.mask_key(number) for site, keys in own.items()}
    known = {
        (owner,): self_mask(s, block, number, owner)
        for (kind, owner), s in secrets.items()
        if kind == "self"
    }
    known |= {(s,): self_mask(k.self_seed(number), block, number, s) for s, k in own.items()}
    for owner, key in mask_keys.items():
        for peer in set(setup.sharers) - {owner}:
            public = setup.advertisement(peer).mask_keys[block.index(number)]
            pair = tuple(sorted((owner, peer)))
            known[pair] = pair_mask(key, owner, public, peer, block, number)
    return known


def stripped(
    vector: Vector, site: str, maskers: Collection[str], known: Mapping[tuple[str, ...], bytes]
) -> Vector:
    """A site's masked vector without every mask that the adversary can take off."""
    out = vector.copy()
    masks = [Mask(known[(site,)], minus=True)] if (site,) in known else []
    for peer in maskers:
        pair = tuple(sorted((site, peer)))
        if peer != site and pair in known:
            masks.append(Mask(known[pair], minus=not takes_off(site, peer)))
    apply_masks(out, masks)
    return out


def play(
    federation: Masked,
    number: int,
    values: Mapping[str, Vector],
    maskers: tuple[str, ...],
    survivors: Collection[str],
    answering: Collection[str],
    late: Collection[str],
) -> tuple[RoundSum, list[tuple[str, UnmaskAnswer]]]:
    """A round in which vectors of ``late`` sites reach the coordinator after the survivors'."""
    total = federation.round(number, values, maskers, survivors, answering)
    for site in late:
        body = federation.masked(total, number, site, values[site])
        with pytest.raises(SmrfedError, match="SMR-E130"):
            total.add(site, body)
    order = total.close()
    bodies = {site: federation.transcript[f"answer {number} {site}"] for site in answering}
    return total, [(site, UnmaskAnswer.decode(body, order)) for site, body in bodies.items()]
