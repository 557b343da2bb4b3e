"""What the coordinator and colluding sites see is the same whatever the honest sites' inputs were,
as long as these add up to the same.

The adversary is written out (:func:`seeds_known_to`): from every byte that went through the
coordinator and the colluders' secrets it makes all keystream seeds that it can. A keystream whose
seed it does not have may be any (AES as a random function); so for every other inputs with the same
sum there must be keystreams, at unknown seeds only, that give exactly the bytes that it saw. The
tests construct them and compare bytes. With as many uniform masks as unknown seeds this is a
bijection between masks, so the two views are equal in distribution.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from masked_federation import (
    Masked,
    Vector,
    block_of,
    names,
    plain_sum,
    secret_of,
    signing_key,
    vectors,
)
from scipy import stats

from shared_model.errors import SmrfedError
from shared_model.secure_aggregation import coordinator as coordinator_module
from shared_model.secure_aggregation import site as site_module
from shared_model.secure_aggregation.block import quorum_is_safe
from shared_model.secure_aggregation.coordinator import RoundSum
from shared_model.secure_aggregation.encryption import ShareCipher
from shared_model.secure_aggregation.keys import agree, private_key
from shared_model.secure_aggregation.masks import Mask, apply_masks
from shared_model.secure_aggregation.messages import (
    MaskedVector,
    MaskingOrder,
    UnmaskAnswer,
    UnmaskOrder,
    UnmaskQuestion,
    share_of_round,
)
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


@contextmanager
def programmed(changes: Mapping[bytes, Vector]) -> Iterator[None]:
    """The keystream of these seeds is another: its own plus the change."""

    def apply(vector: Vector, masks: Collection[Mask]) -> None:
        apply_masks(vector, list(masks))
        for mask in masks:
            if mask.seed in changes:
                operation = np.subtract if mask.minus else np.add
                operation(vector, changes[mask.seed], out=vector)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site_module, "apply_masks", apply)
        patch.setattr(coordinator_module, "apply_masks", apply)
        yield


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


@st.composite
def games(draw: st.DrawFn) -> dict[str, object]:
    count = draw(st.integers(3, 8))
    colluding = draw(st.integers(0, count - 2))
    threshold = (count + colluding) // 2 + 1
    assume(threshold <= count)
    smallest = draw(st.integers(threshold, count))
    everyone = draw(st.permutations(names(count)))
    colluders = tuple(sorted(everyone[:colluding]))
    survivors = sorted(draw(st.permutations(everyone))[: draw(st.integers(smallest, count))])
    answering = draw(st.permutations(survivors))[: draw(st.integers(threshold, len(survivors)))]
    dropped = [site for site in names(count) if site not in survivors]
    late = [site for site in dropped if draw(st.booleans())]
    return {
        "terms": (count, threshold, smallest),
        "colluders": colluders,
        "round": (survivors, sorted(answering), late),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


@settings(max_examples=30, deadline=None)
@given(game=games())
def test_other_inputs_of_the_same_sum_give_the_same_bytes_under_other_unknown_masks(game) -> None:
    count, threshold, smallest = game["terms"]
    colluders, (survivors, answering, late) = game["colluders"], game["round"]
    maskers = names(count)
    assert quorum_is_safe(count, threshold, len(colluders))
    federation = Masked(block_of(count, threshold, smallest, rounds=1)).agree(maskers)
    values = vectors(maskers, NUMBERS, game["seed"])
    total, answers = play(federation, 1, values, maskers, survivors, answering, late)
    seen, opened = dict(federation.transcript), total.open()

    honest = [site for site in survivors if site not in colluders]
    others = vectors(maskers, NUMBERS, game["seed"] + 1)
    others |= {site: values[site] for site in colluders}
    if honest:  # the last one makes up for the rest: the same honest sum
        shortfall = sum((values[s] - others[s] for s in honest), np.zeros(NUMBERS, np.uint64))
        others[honest[-1]] = others[honest[-1]] + shortfall

    changes: dict[bytes, Vector] = {}
    moved = np.zeros(NUMBERS, dtype=np.uint64)
    for one, next_one in itertools.pairwise(honest):
        moved = moved + values[one] - others[one]
        # `one` comes first by name, so it adds the stream that the next takes off.
        changes[pair_seed(federation, 1, one, next_one)] = moved.copy()
    for site in set(late) - set(colluders):
        changes[own_seed(federation, 1, site)] = values[site] - others[site]

    known = seeds_known_to(federation, 1, colluders, answers)
    assert not changes.keys() & set(known.values())
    again = Masked(federation.block).agree(maskers)
    with programmed(changes):
        total, _ = play(again, 1, others, maskers, survivors, answering, late)
        assert again.transcript == seen
        np.testing.assert_array_equal(total.open(), opened)
    if changes and any((change != 0).any() for change in changes.values()):
        assert any((values[site] != others[site]).any() for site in maskers)


@settings(max_examples=25, deadline=None)
@given(game=games())
def test_the_adversary_lacks_a_mask_of_every_honest_site_but_a_lone_one(game) -> None:
    # The game's other half: that nothing but the sum can be computed, by trying to.
    count, threshold, smallest = game["terms"]
    colluders, (survivors, answering, late) = game["colluders"], game["round"]
    maskers = names(count)
    federation = Masked(block_of(count, threshold, smallest, rounds=1)).agree(maskers)
    values = vectors(maskers, NUMBERS, game["seed"])
    _, answers = play(federation, 1, values, maskers, survivors, answering, late)
    known = seeds_known_to(federation, 1, colluders, answers)
    honest = [site for site in survivors if site not in colluders]
    total = np.zeros(NUMBERS, dtype=np.uint64)
    for site in [*survivors, *late]:
        body = federation.transcript[f"vector 1 {site}"]
        bare = stripped(MaskedVector.decode(body, NUMBERS).masked, site, maskers, known)
        exposed = site in colluders or honest == [site]
        assert (bare == values[site]).all() == exposed
        if site in survivors:
            total = total + bare
    np.testing.assert_array_equal(total.view(np.int64), plain_sum(values, survivors))


def split_attack(count: int, threshold: int, colluding: int) -> bool:
    """Two groups of honest sites are told survivors with, and without, one victim: is it bare?"""
    maskers = names(count)
    colluders, honest = maskers[:colluding], maskers[colluding:]
    victim = honest[0]
    federation = Masked(block_of(count, threshold, threshold, rounds=1)).agree(maskers)
    values = vectors(maskers, NUMBERS, 7)
    total = federation.round(1, values, maskers, maskers, ())
    everyone = total.close()
    without = UnmaskOrder(
        **total.order.model_dump(), survivors=tuple(s for s in maskers if s != victim)
    )
    middle = (len(honest) + 1) // 2
    answers = []
    for group, order in ((honest[:middle], everyone), (honest[middle:], without)):
        for site in group:
            said = {s: total._confirmations[s] for s in order.survivors}
            shares = federation.setup.shares_for(site, 1, order)
            question = UnmaskQuestion(shares, said)
            session = federation.sessions[site]
            answers.append((site, session.unmask(1, total.order, order, question)))
            other = without if order is everyone else everyone
            if site in other.survivors:
                said = {s: total._confirmations[s] for s in other.survivors}
                with pytest.raises(SmrfedError, match="SMR-E135"):
                    session.unmask(1, total.order, other, UnmaskQuestion(shares, said))
    known = seeds_known_to(federation, 1, colluders, answers)
    body = federation.transcript[f"vector 1 {victim}"]
    bare = stripped(MaskedVector.decode(body, NUMBERS).masked, victim, maskers, known)
    return bool((bare == values[victim]).all())


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
def test_two_survivor_sets_expose_a_site_exactly_when_the_plans_bound_is_violated(
    count: int,
) -> None:
    outcomes = set()
    for colluding in range(min(3, count - 1)):
        for threshold in range(max(2, colluding + 1), count):
            exposed = split_attack(count, threshold, colluding)
            assert exposed == (not quorum_is_safe(count, threshold, colluding))
            outcomes.add(exposed)
    assert outcomes == {True, False}


def told_different_maskers(sessions_check: bool) -> Vector:
    """A hostile coordinator names six sites to five of ten and all ten to the others, so that the
    masks of the last two of the six with the dropped four are all that hides them.
    """
    count, least = 10, 6
    maskers = names(count)
    federation = Masked(block_of(count, least, least, rounds=1)).agree(maskers)
    values = vectors(maskers, NUMBERS, 3)
    small, whole = (
        RoundSum(federation.setup, 1, sites, NUMBERS) for sites in (maskers[:least], maskers)
    )
    masked, said = {}, {}
    for place, site in enumerate(maskers):
        total = small if place < least else whole
        body = MaskedVector.decode(federation.masked(total, 1, site, values[site]), NUMBERS)
        masked[site], said[site] = body.masked, body.confirmation
    order = UnmaskOrder(**whole.order.model_dump(), survivors=maskers[4:])
    answers = []
    for site in maskers[4:]:
        question = UnmaskQuestion(
            federation.setup.shares_for(site, 1, order), {s: said[s] for s in order.survivors}
        )
        # Those that answered for the small list see at once that this is another.
        own = whole.order if not sessions_check else (small if site < maskers[6] else whole).order
        answers.append((site, federation.sessions[site].unmask(1, own, order, question)))
    known = seeds_known_to(federation, 1, (), answers)
    pair = [stripped(masked[site], site, maskers[:least], known) for site in maskers[4:6]]
    return pair[0] + pair[1] - values[maskers[4]] - values[maskers[5]]


def test_sites_that_were_told_different_maskers_open_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for check in (True, False):
        with pytest.raises(SmrfedError, match="SMR-E135" if check else "SMR-E136"):
            told_different_maskers(check)
    # Without the confirmations it would open the sum of two sites under the noise of six.
    monkeypatch.setattr(site_module, "require_confirmed", lambda *_: None)
    assert (told_different_maskers(False) == 0).all()


def late_vector(rounds: int) -> tuple[Masked, list[Vector]]:
    """A site's late vectors of zeros, without all masks but its own, from many rounds."""
    sites = names(4)
    federation = Masked(block_of(4, 3, 3, rounds=rounds)).agree(sites)
    values = {site: np.zeros(64, dtype=np.uint64) for site in sites}
    bare = []
    for number in range(1, rounds + 1):
        late, staying = sites[number % 4], tuple(s for s in sites if s != sites[number % 4])
        total, answers = play(federation, number, values, sites, staying, staying, (late,))
        total.open()
        known = seeds_known_to(federation, number, (), answers)
        assert (late,) not in known
        pairs = [tuple(sorted((late, peer))) for peer in staying]
        assert all(pair in known for pair in pairs)  # its mask key is open
        body = federation.transcript[f"vector {number} {late}"]
        bare.append(stripped(MaskedVector.decode(body, 64).masked, late, sites, known))
    return federation, bare


def chi_square(data: bytes) -> float:
    """p value of "bytes are uniform"."""
    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    return float(stats.chisquare(counts).pvalue)


def test_a_late_vector_stays_uniform_though_its_mask_key_is_open() -> None:
    _, bare = late_vector(40)
    assert chi_square(b"".join(vector.tobytes() for vector in bare)) > 1e-6
    assert len({vector.tobytes() for vector in bare}) == len(bare)


def test_no_site_gives_both_shares_of_one_site() -> None:
    sites = names(4)
    federation = Masked(block_of(4, 3, 3)).agree(sites)
    values = vectors(sites, NUMBERS, 1)
    total = federation.round(1, values, sites, sites[:3], sites[:3])
    for site in sites[:3]:
        body = federation.transcript[f"answer 1 {site}"]
        answer = UnmaskAnswer.decode(body, total.close())
        assert set(answer.self_shares) == set(sites[:3])
        assert set(answer.key_shares) == {sites[3]}


@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1])
def test_a_masked_vector_is_uniform_whatever_it_holds(value: int) -> None:
    sites = names(3)
    rounds = 24
    federation = Masked(block_of(3, 2, 2, rounds=rounds)).agree(sites)
    constant = np.full(1 << 12, value, dtype=np.uint64)
    order = MaskingOrder(first_round=1, maskers=sites)
    drawn = []
    for number in range(1, rounds + 1):
        own = constant.copy()
        federation.sessions[sites[0]].mask(own, number, order, signing_key(sites[0]))
        drawn.append(own)
    table = np.stack(drawn)
    assert chi_square(table.tobytes()) > 1e-6
    for byte in range(8):  # each place of a number by itself
        column = np.ascontiguousarray(table).view(np.uint8).reshape(-1, 8)[:, byte]
        assert chi_square(column.tobytes()) > 1e-6
    # Successive differences too: no mask is used twice, in no round and at no place.
    assert chi_square((table[1:] - table[:-1]).tobytes()) > 1e-6
    assert chi_square((table[:, 1:] - table[:, :-1]).tobytes()) > 1e-6
    # The test can fail: a number that is hidden by less than its whole range shows.
    assert chi_square((table & np.uint64(2**60 - 1)).tobytes()) < 1e-12


def test_transcripts_of_two_inputs_of_one_sum_are_alike_in_distribution() -> None:
    sites = names(3)
    rounds = 60
    low = {sites[0]: 0, sites[1]: 2**40, sites[2]: 5}
    swapped = {sites[0]: 2**40, sites[1]: 0, sites[2]: 5}
    counts = []
    for seed, inputs in enumerate((low, swapped)):
        federation = Masked(block_of(3, 2, 2, rounds=rounds), seed=seed).agree(sites)
        values = {site: np.full(256, value, dtype=np.uint64) for site, value in inputs.items()}
        bodies = []
        for number in range(1, rounds + 1):
            total = federation.round(number, values, sites, sites, sites)
            assert (total.open() == 2**40 + 5).all()
            for site in sites:
                body = federation.transcript[f"vector {number} {site}"]
                bodies.append(MaskedVector.decode(body, 256).masked.tobytes())
        # Two vectors and their difference to the third's: the sum is fixed, the rest is free.
        joined = np.frombuffer(b"".join(bodies), dtype=np.uint8)
        counts.append(np.bincount(joined, minlength=256))
    assert stats.chi2_contingency(np.stack(counts)).pvalue > 1e-6
