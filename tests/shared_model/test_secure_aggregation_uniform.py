"""A masked vector looks like random numbers: byte by byte, late, and beside others (chi-square)."""

from __future__ import annotations

import numpy as np
import pytest
from masked_federation import Masked, Vector, block_of, names, signing_key
from masking_adversary import play, seeds_known_to, stripped
from scipy import stats

from shared_model.secure_aggregation.messages import MaskedVector, MaskingOrder


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
