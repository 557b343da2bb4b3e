"""What the coordinator and colluding sites see is the same whatever the honest sites' inputs were,
as long as these add up to the same.

A keystream whose seed the adversary (:mod:`masking_adversary`) does not have may be any (AES as a
random function); so for every other inputs with the same sum there must be keystreams, at unknown
seeds only, that give exactly the bytes that it saw. The tests construct them and compare bytes.
With as many uniform masks as unknown seeds this is a bijection between masks, so the two views are
equal in distribution.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from masked_federation import Masked, Vector, block_of, names, plain_sum, vectors
from masking_adversary import NUMBERS, own_seed, pair_seed, play, seeds_known_to, stripped

from shared_model.secure_aggregation import coordinator as coordinator_module
from shared_model.secure_aggregation import site as site_module
from shared_model.secure_aggregation.block import quorum_is_safe
from shared_model.secure_aggregation.masks import Mask, apply_masks
from shared_model.secure_aggregation.messages import MaskedVector


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
