"""A coordinator that tells different sites different things opens nothing that it should not."""

from __future__ import annotations

import pytest
from masked_federation import Masked, Vector, block_of, names, vectors
from masking_adversary import NUMBERS, seeds_known_to, stripped

from shared_model.errors import SmrfedError
from shared_model.secure_aggregation import site as site_module
from shared_model.secure_aggregation.block import quorum_is_safe
from shared_model.secure_aggregation.coordinator import RoundSum
from shared_model.secure_aggregation.messages import (
    MaskedVector,
    UnmaskAnswer,
    UnmaskOrder,
    UnmaskQuestion,
)


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
