"""Hostile, replayed and exchanged messages are numbered errors, and nothing is taken from them."""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_federation import (
    Masked,
    block_of,
    keys_reply,
    names,
    plain_sum,
    secret_of,
    signing_key,
    vectors,
)
from pydantic import ValidationError

from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import decode_arrays, decode_integers, encode_integers
from shared_model.protocol.sealed import Sealed
from shared_model.secure_aggregation.coordinator import BlockSetup, RoundSum
from shared_model.secure_aggregation.messages import (
    KeyAdvertisement,
    MaskedVector,
    MaskingOrder,
    UnmaskAnswer,
    UnmaskOrder,
    UnmaskQuestion,
    decode_advertisements,
    decode_shares,
    encode_advertisements,
)
from shared_model.secure_aggregation.signed import pack, read_advertisement, unpack
from shared_model.secure_aggregation.site import SiteSession
from shared_model.secure_aggregation.site_keys import SiteKeys

SITES = names(4)
BLOCK = block_of(4, 3, 3)
VALUES = vectors(SITES, 5, 1)


@functools.cache
def played() -> tuple[Masked, RoundSum]:
    federation = Masked(BLOCK).agree(SITES)
    return federation, federation.round(1, VALUES, SITES, SITES[:3], SITES[:3])


def order() -> UnmaskOrder:
    return played()[1].close()


def question(site: str = SITES[0]) -> UnmaskQuestion:
    return played()[1].question(site)


def decoders() -> dict[str, tuple[Callable[[bytes], Any], bytes]]:
    federation, _ = played()
    seen, site = federation.transcript, SITES[0]
    advertised = federation.setup.advertisement(site).encode()
    others = frozenset(SITES) - {site}
    return {
        "advertisement": (lambda b: KeyAdvertisement.decode(b, BLOCK, site), advertised),
        "relayed": (lambda b: decode_advertisements(b, BLOCK), seen["advertisements"]),
        "packed": (
            lambda b: read_advertisement(unpack(b, BLOCK), site, BLOCK),
            federation.setup.relayed()[site],
        ),
        "shares": (lambda b: decode_shares(b, BLOCK, others), seen[f"shares {site}"]),
        "vector": (lambda b: MaskedVector.decode(b, 5), seen[f"vector 1 {site}"]),
        "question": (lambda b: UnmaskQuestion.decode(b, order(), site), question().encode()),
        "answer": (lambda b: UnmaskAnswer.decode(b, order()), seen[f"answer 1 {site}"]),
    }


CODES = {"SMR-E111", "SMR-E113", "SMR-E115", "SMR-E116", "SMR-E117", "SMR-E119", "SMR-E131"}


@pytest.mark.parametrize("name", sorted(decoders()))
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_mutated_bytes_are_numbered_errors_or_another_message(
    name: str, data: st.DataObject
) -> None:
    decode, valid = decoders()[name]
    changed = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed)) | st.integers(0, 200))
        kind = data.draw(st.sampled_from(["set", "cut", "insert", "number"]))
        if kind == "set" and at < len(changed):
            changed[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del changed[at : at + data.draw(st.integers(1, 80))]
        elif kind == "insert":
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            changed[at : at + 8] = struct.pack("<Q", data.draw(st.integers(0, 2**64 - 1)))
    content = data.draw(st.just(bytes(changed)) | st.binary(max_size=200))
    try:
        read = decode(content)
    except SmrfedError as error:
        assert error.code in CODES  # noqa: PT017
    else:
        # What is read has one spelling; nothing signed can be changed at all.
        again = encode_advertisements(read) if name == "relayed" else None
        if isinstance(read, KeyAdvertisement | UnmaskQuestion | UnmaskAnswer) and name != "packed":
            again = read.encode()
        assert again in (None, content)
        assert name != "packed" or content == valid


@pytest.mark.parametrize("name", sorted(decoders()))
def test_a_message_larger_than_the_block_allows_is_not_read(name: str) -> None:
    decode, valid = decoders()[name]
    assert decode(valid) is not None
    with pytest.raises(SmrfedError, match="SMR-E11"):
        decode(valid + bytes(1 << 20))


def test_integers_are_read_in_these_exchanges_only() -> None:
    body = encode_integers({"a": np.arange(3, dtype=np.uint64), "b": np.zeros(2, dtype=np.uint8)})
    assert decode_integers(body)["a"].tolist() == [0, 1, 2]
    with pytest.raises(SmrfedError, match="SMR-E115"):
        decode_arrays(body)
    with pytest.raises(SmrfedError, match="SMR-E114"):
        encode_integers({"a": np.zeros(2, dtype=np.float32)})  # type: ignore[dict-item]


OTHERS: dict[str, Any] = {
    "run": block_of(4, 3, 3, run_id="other"),
    "plan": block_of(4, 3, 3, plan="3" * 64),
    "block": block_of(4, 3, 3, first_round=3),
}


@pytest.mark.parametrize("what", sorted(OTHERS))
def test_keys_of_another_run_plan_or_block_are_refused_by_coordinator_and_peers(what: str) -> None:
    other = OTHERS[what]
    body = SiteKeys(other, SITES[1], secret_of(SITES[1])).advertisement().encode()
    replayed = keys_reply(other, SITES[1], body)
    with pytest.raises(SmrfedError, match="SMR-E130"):
        BlockSetup(BLOCK).add_advertisement(SITES[1], replayed)
    relayed = played()[0].setup.relayed() | {SITES[1]: pack(replayed)}
    with pytest.raises(SmrfedError, match="SMR-E130"):
        SiteSession.open(BLOCK, SITES[0], secret_of(SITES[0]), relayed)


def test_keys_that_the_plan_does_not_certify_are_refused() -> None:
    relayed = played()[0].setup.relayed()
    body = SiteKeys(BLOCK, SITES[1], b"!" * 32).advertisement().encode()
    honest = keys_reply(BLOCK, SITES[1], body)
    forged = Sealed(honest.header, honest.body, signing_key("server").sign(honest.digest))
    evil = {
        "SMR-E113": relayed | {SITES[1]: pack(forged)},  # the server's own signature
        "SMR-E130": relayed | {SITES[1]: relayed[SITES[2]]},
    }
    with pytest.raises(SmrfedError, match="SMR-E113"):
        SiteSession.open(BLOCK, SITES[0], secret_of(SITES[0]), evil["SMR-E113"])
    with pytest.raises(SmrfedError, match="SMR-E113"):  # another site's key signed it
        SiteSession.open(BLOCK, SITES[0], secret_of(SITES[0]), evil["SMR-E130"])
    with pytest.raises(SmrfedError, match="SMR-E130"):  # a site that nobody accepted
        SiteSession.open(
            BLOCK, SITES[0], secret_of(SITES[0]), relayed | {"sybil": relayed[SITES[1]]}
        )
    with pytest.raises(SmrfedError, match="SMR-E130"):  # its own secret was lost
        SiteSession.open(BLOCK, SITES[0], b"?" * 32, relayed)
    few = {site: relayed[site] for site in SITES[:2]}
    with pytest.raises(SmrfedError, match="SMR-E132"):
        SiteSession.open(BLOCK, SITES[0], secret_of(SITES[0]), few)


def test_a_weak_key_is_refused_though_it_is_signed() -> None:
    honest = SiteKeys(BLOCK, SITES[1], secret_of(SITES[1])).advertisement()
    weak = KeyAdvertisement(
        honest.share_key, (bytes(32), *honest.mask_keys[1:]), honest.commitments
    )
    with pytest.raises(SmrfedError, match="SMR-E131"):
        BlockSetup(BLOCK).add_advertisement(SITES[1], keys_reply(BLOCK, SITES[1], weak.encode()))


@pytest.mark.parametrize(
    ("order", "number"),
    [
        (MaskingOrder(first_round=1, maskers=SITES), 3),  # a round of the next block
        (MaskingOrder(first_round=3, maskers=SITES), 1),  # another block's keys
        (MaskingOrder(first_round=1, maskers=SITES[1:]), 1),  # without the site itself
        (MaskingOrder(first_round=1, maskers=SITES[:2]), 1),  # too few
        (MaskingOrder(first_round=1, maskers=(*SITES[:3], "stranger")), 1),
    ],
)
def test_a_site_does_not_mask_for_such_orders(order: MaskingOrder, number: int) -> None:
    vector = VALUES[SITES[0]].copy()
    with pytest.raises(SmrfedError, match="SMR-E134"):
        played()[0].sessions[SITES[0]].mask(vector, number, order, signing_key(SITES[0]))
    assert (vector == VALUES[SITES[0]]).all()


@pytest.mark.parametrize(
    ("survivors", "maskers"),
    [
        (SITES[:2], SITES),  # too few
        (SITES[1:], SITES),  # without the site itself
        ((*SITES[:3], "stranger"), SITES),
        (SITES[:3], SITES[:3]),  # other maskers than it masked for
    ],
)
def test_a_site_does_not_open_for_such_survivors(
    survivors: tuple[str, ...], maskers: tuple[str, ...]
) -> None:
    federation, total = played()
    asked = UnmaskOrder(first_round=1, maskers=maskers, survivors=survivors)
    with pytest.raises(SmrfedError, match="SMR-E135"):
        federation.sessions[SITES[0]].unmask(1, total.order, asked, question())


def test_a_site_opens_nothing_without_every_survivors_own_confirmation() -> None:
    federation = Masked(BLOCK).agree(SITES)
    total = federation.round(2, VALUES, SITES, SITES[:3], ())
    good = total.question(SITES[0])
    said = dict(good.confirmations)
    last_round = played()[1].question(SITES[0]).confirmations[SITES[1]]
    for other in (
        said | {SITES[1]: said[SITES[2]]},
        said | {SITES[1]: last_round},
        {site: said[site] for site in SITES[:2]},
    ):
        with pytest.raises(SmrfedError, match="SMR-E136"):
            federation.sessions[SITES[0]].unmask(
                2, total.order, total.close(), UnmaskQuestion(good.shares, other)
            )
    answer = federation.sessions[SITES[0]].unmask(2, total.order, total.close(), good)
    assert set(answer.self_shares) == set(SITES[:3])


def test_replayed_and_foreign_vectors_are_not_added() -> None:
    federation = Masked(BLOCK).agree(SITES)
    first = federation.begin(1, SITES, 5)
    second = federation.begin(2, SITES, 5)
    fewer = federation.begin(1, SITES[:3], 5)
    body = federation.masked(first, 1, SITES[0], VALUES[SITES[0]])
    for total, site in ((second, SITES[0]), (first, SITES[1]), (fewer, SITES[0])):
        with pytest.raises(SmrfedError, match="SMR-E136"):
            total.add(site, body)
        assert not total._sum.any()
    first.add(SITES[0], body)
    before = first._sum.copy()
    for site in (SITES[0], "stranger"):
        with pytest.raises(SmrfedError, match="SMR-E130"):
            first.add(site, body)
    assert (first._sum == before).all()
    with pytest.raises(SmrfedError, match="SMR-E137"):
        first.close()


def test_shares_of_another_round_or_sender_are_left_out_and_the_sum_still_opens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    federation = Masked(BLOCK).agree(SITES)
    total = federation.round(1, VALUES, SITES, SITES, ())
    good = total.question(SITES[0])
    next_round = federation.setup.shares_for(SITES[0], 2, total.close())
    mixed = {
        SITES[1]: next_round[SITES[1]],
        SITES[2]: good.shares[SITES[3]],
        SITES[3]: good.shares[SITES[3]],
    }
    with caplog.at_level(logging.WARNING):
        answer = federation.sessions[SITES[0]].unmask(
            1, total.order, total.close(), UnmaskQuestion(mixed, good.confirmations)
        )
    assert set(answer.self_shares) == {SITES[0], SITES[3]}
    assert SITES[1] in caplog.text
    total.add_answer(SITES[0], answer.encode())
    for site in SITES[1:]:
        total.add_answer(site, federation.answer(total, 1, site))
    np.testing.assert_array_equal(total.open(), plain_sum(VALUES, SITES))


def test_answers_come_once_and_from_survivors_only() -> None:
    federation = Masked(BLOCK).agree(SITES)
    total = federation.round(1, VALUES, SITES, SITES[:3], SITES[:1])
    body = federation.transcript[f"answer 1 {SITES[0]}"]
    for site in (SITES[0], SITES[3]):
        with pytest.raises(SmrfedError, match="SMR-E130"):
            total.add_answer(site, body)
    with pytest.raises(SmrfedError, match="SMR-E138"):
        total.open()


def test_an_answer_holds_no_share_that_the_order_does_not_ask_for() -> None:
    share = bytes(33)
    for answer in (
        UnmaskAnswer({SITES[3]: share}, {}),  # a dropped site's own mask
        UnmaskAnswer({}, {SITES[0]: share}),  # a survivor's mask key
        UnmaskAnswer({"stranger": share}, {}),
    ):
        with pytest.raises(SmrfedError, match="SMR-E119"):
            UnmaskAnswer.decode(answer.encode(), order())


def test_set_up_replies_come_once_and_in_order() -> None:
    federation, _ = played()
    late = keys_reply(BLOCK, SITES[0], federation.setup.advertisement(SITES[0]).encode())
    with pytest.raises(SmrfedError, match="SMR-E130"):
        federation.setup.add_advertisement(SITES[0], late)
    with pytest.raises(SmrfedError, match="SMR-E130"):
        federation.setup.add_shares(SITES[0], federation.transcript[f"shares {SITES[0]}"])
    with pytest.raises(SmrfedError, match="SMR-E130"):
        RoundSum(federation.setup, 1, (*SITES[:3], "stranger"), 5)


@pytest.mark.parametrize("maskers", [("b", "a"), ("a", "a"), ("A",), tuple(names(65))])
def test_lists_of_sites_have_one_spelling(maskers: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        MaskingOrder(first_round=1, maskers=maskers)
