"""Shamir against an independent oracle, weak keys, keystreams, derived bytes, wrap-around."""

from __future__ import annotations

import itertools
import math
import random
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from Crypto.Cipher import AES
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from masked_federation import Masked, block_of, names, vectors

from shared_model.errors import SmrfedError
from shared_model.secure_aggregation import shamir
from shared_model.secure_aggregation.block import Block, quorum_is_safe
from shared_model.secure_aggregation.derivation import derive
from shared_model.secure_aggregation.keys import public_bytes, require_public
from shared_model.secure_aggregation.masks import Mask, apply_masks
from shared_model.secure_aggregation.messages import MaskedVector
from shared_model.secure_aggregation.overflow import log10_wrap_probability
from shared_model.secure_aggregation.shamir import PRIME, coefficients, read_share, share_at

BLOCK = block_of(5, 3, 3)
SECRETS = st.binary(min_size=32, max_size=32)


def test_the_field_is_one() -> None:
    # Miller-Rabin with forty fixed and forty random bases, and no smaller candidate above 2**256.
    def probably_prime(n: int) -> bool:
        odd, twos = n - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        draw = random.Random(0)
        for base in [*range(2, 42), *(draw.randrange(2, n - 1) for _ in range(40))]:
            powers = [pow(base, odd * 2**k, n) for k in range(twos)]
            if powers[0] != 1 and n - 1 not in powers:
                return False
        return True

    assert PRIME == 2**256 + 297
    assert probably_prime(PRIME)
    assert not any(probably_prime(2**256 + k) for k in range(1, 297, 2))


@given(
    secret=SECRETS, seed=SECRETS, threshold=st.integers(2, 9), points=st.permutations(range(1, 65))
)
def test_shares_agree_with_interpolation_over_the_rationals(
    secret: bytes, seed: bytes, threshold: int, points: list[int]
) -> None:
    polynomial = coefficients(secret, threshold, seed, BLOCK, "test")
    chosen = points[:threshold]
    # The oracle knows no field: the integer polynomial's values, Lagrange with fractions at 0.
    exact = {x: sum(c * x**k for k, c in enumerate(polynomial)) for x in chosen}
    for x, value in exact.items():
        assert share_at(polynomial, x) == (value % PRIME).to_bytes(33, "big")
    at_zero = sum(
        value * math.prod(Fraction(-o, x - o) for o in chosen if o != x)
        for x, value in exact.items()
    )
    assert at_zero == int.from_bytes(secret, "big")
    shares = {x: read_share(share_at(polynomial, x)) for x in chosen}
    assert shamir.reconstruct(shares) == secret


@given(secret=SECRETS, other=SECRETS, seed=SECRETS, threshold=st.integers(2, 9))
def test_one_share_less_than_the_threshold_fits_every_secret(
    secret: bytes, other: bytes, seed: bytes, threshold: int
) -> None:
    polynomial = coefficients(secret, threshold, seed, BLOCK, "test")
    known = {x: read_share(share_at(polynomial, x)) for x in range(1, threshold)}
    # For any other secret one more share exists that goes with the known ones: construct it.
    scale = math.prod(x * pow(x - threshold, -1, PRIME) for x in known) % PRIME
    missing = 0  # share at `threshold` that gives 0 at 0 in place of the secret
    base = shamir.value_at({**known, threshold: missing}, 0)
    wanted = (int.from_bytes(other, "big") - base) * pow(scale, -1, PRIME) % PRIME
    assert shamir.reconstruct({**known, threshold: wanted}) == other


def test_coefficients_of_small_secrets_are_no_smaller() -> None:
    seeds = (bytes([n]) * 32 for n in range(200))
    drawn = [c for s in seeds for c in coefficients(bytes(32), 6, s, BLOCK, "test")[1:]]
    assert len(set(drawn)) == 1000
    assert abs(sum(c < PRIME // 2 for c in drawn) - 500) < 80
    assert min(drawn) > 2**200


@pytest.mark.parametrize(
    "share", [b"", bytes(32), bytes(34), PRIME.to_bytes(33, "big"), b"\xff" * 33]
)
def test_what_is_no_element_is_no_share(share: bytes) -> None:
    with pytest.raises(SmrfedError, match="SMR-E133"):
        read_share(share)


@pytest.mark.parametrize("points", [(0,), (1, 1), (-1,), (PRIME,)])
def test_points_are_distinct_and_not_zero(points: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        shamir._require_points(points)


LOW_ORDER = [
    int(u)
    for u in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        2**255 - 20,
        2**255 - 19,
        2**255 - 18,
    )
]


@pytest.mark.parametrize("u", [*LOW_ORDER, *(u + 2**255 for u in LOW_ORDER)])
def test_points_of_low_order_are_refused(u: int) -> None:
    raw = u.to_bytes(32, "little")
    # The library says so itself: both would agree on zero.
    with pytest.raises(ValueError, match="shared key"):
        X25519PrivateKey.from_private_bytes(b"k" * 32).exchange(
            X25519PublicKey.from_public_bytes(raw)
        )
    with pytest.raises(SmrfedError, match="SMR-E131"):
        require_public(raw, "a")


@given(SECRETS)
def test_public_keys_of_sites_are_taken_in_their_one_spelling(seed: bytes) -> None:
    raw = public_bytes(X25519PrivateKey.from_private_bytes(seed))
    require_public(raw, "a")
    for other in (
        raw[:-1],
        raw + b"\0",
        (int.from_bytes(raw, "little") | 2**255).to_bytes(32, "little"),
    ):
        with pytest.raises(SmrfedError, match="SMR-E131"):
            require_public(other, "a")


@pytest.mark.parametrize("size", [0, 1, 3, (1 << 16) - 1, 1 << 16, (1 << 17) + 5])
def test_a_mask_is_the_keystream_of_another_library_and_comes_off_again(size: int) -> None:
    seed = b"s" * 32
    stream = AES.new(seed, AES.MODE_CTR, nonce=b"", initial_value=0).encrypt(bytes(8 * size))
    vector = np.zeros(size, dtype=np.uint64)
    apply_masks(vector, [Mask(seed)])
    assert vector.astype("<u8").tobytes() == stream
    apply_masks(vector, [Mask(b"t" * 32), Mask(seed, minus=True), Mask(b"t" * 32, minus=True)])
    assert not vector.any()


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(4, dtype=np.int64),
        np.zeros((2, 2), dtype=np.uint64),
        np.zeros(8, dtype=np.uint64)[::2],
        np.frombuffer(bytes(16), dtype=np.uint64),
    ],
)
def test_only_a_flat_vector_of_ones_own_is_masked(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not a flat"):
        apply_masks(vector, [Mask(b"s" * 32)])


def test_masking_takes_little_memory_beside_the_vector() -> None:
    vector = np.zeros(1 << 21, dtype=np.uint64)
    tracemalloc.start()
    apply_masks(vector, [Mask(bytes([n]) * 32) for n in range(32)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_the_coordinators_memory_does_not_grow_with_the_sites() -> None:
    peaks = []
    numbers = 1 << 17
    for count in (3, 12):
        sites = names(count)
        federation = Masked(block_of(count, 2, 2, rounds=1)).agree(sites)
        value = vectors(sites[:1], numbers, 1)[sites[0]]
        total = federation.begin(1, sites, numbers)
        peak = 0
        for site in sites:
            body = federation.masked(total, 1, site, value)
            federation.transcript.clear()
            tracemalloc.start()
            total.add(site, body)
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        for site in sites[:2]:
            total.add_answer(site, federation.answer(total, 1, site))
        tracemalloc.start()
        total.open()
        peak = max(peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        peaks.append(peak)
    assert max(peaks) < 2.5 * 8 * numbers + (1 << 20)
    assert peaks[1] < 1.2 * peaks[0] + (1 << 20)


def test_every_field_of_a_context_changes_the_bytes() -> None:
    blocks = [
        BLOCK,
        block_of(5, 3, 3, run_id="rum"),
        block_of(5, 3, 3, plan="2" * 64),
        block_of(5, 3, 3, first_round=2),
        block_of(5, 3, 3, rounds=3),
    ]
    uses = [("a", ()), ("b", ()), ("a", ("x",)), ("a", ("x", "y")), ("a", ("xy",)), ("a", (1,))]
    made = [
        derive(secret, block, purpose, *fields)
        for secret, block, (purpose, fields) in itertools.product(
            (bytes(32), b"\1" * 32), blocks, uses
        )
    ]
    assert len(set(made)) == len(made)
    with pytest.raises(ValueError, match="31 bytes"):
        derive(bytes(31), BLOCK, "a")


@pytest.mark.parametrize(
    ("sites", "threshold", "smallest"), [(3, 1, 2), (3, 3, 2), (3, 2, 4), (65, 40, 40), (1, 1, 1)]
)
def test_a_block_has_terms_that_can_hold(sites: int, threshold: int, smallest: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        block_of(sites, threshold, smallest)


def test_a_block_knows_its_rounds() -> None:
    block = block_of(3, 2, 2, rounds=4, first_round=5)
    assert [block.holds(n) for n in range(4, 10)] == [False, True, True, True, True, False]
    for wrong in (4, 9):
        with pytest.raises(ValueError, match="not in the block"):
            block.index(wrong)
    with pytest.raises(ValueError, match="rounds"):
        Block("run", "1" * 64, 0, 1, block.signing_keys, 2, 2)


def test_the_bound_on_the_threshold() -> None:
    assert [t for t in range(2, 7) if quorum_is_safe(6, t, 1)] == [4, 5, 6]
    assert [t for t in range(2, 7) if quorum_is_safe(6, t, 0)] == [4, 5, 6]
    assert [t for t in range(2, 7) if quorum_is_safe(6, t, 2)] == [5, 6]


def test_the_wrap_bound_covers_a_small_integer_type_measured() -> None:
    # The same formula with a bound of 2**63 / scale: shrink the room until wraps are frequent.
    room, std = 3.0, 1.0
    whole = 2**63 / (2.0**40 + 1)
    patients = int(whole) - 1
    left = 2.0**63 - patients * (2.0**40 + 1)
    log10 = log10_wrap_probability(
        patients=patients,
        clipping_norm=1.0,
        fraction_bits=40,
        noise_std=left / room * std,
        numbers=1,
        rounds=1,
    )
    drawn = np.random.default_rng(0).normal(0, std, 1_000_000)
    assert 10**log10 == pytest.approx(2 * math.exp(-(room**2) / 2))
    assert (np.abs(drawn) >= room).mean() < 10**log10


def test_wrap_around_is_negligible_at_the_plans_defaults_and_certain_beyond() -> None:
    usual = {
        "patients": 100_000,
        "clipping_norm": 1.0,
        "fraction_bits": 40,
        "noise_std": 100 * 2.0**40,
        "numbers": 12_000_000,
        "rounds": 10_000,
    }
    assert log10_wrap_probability(**usual) < -1e6
    assert log10_wrap_probability(**usual | {"noise_std": 0.0}) == -math.inf
    assert log10_wrap_probability(**usual | {"patients": 2**24}) == 0.0
    assert log10_wrap_probability(**usual | {"noise_std": 2.0**63}) == 0.0
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="standard deviation"):
            log10_wrap_probability(**usual | {"noise_std": wrong})


def test_a_masked_vector_has_just_the_plans_numbers() -> None:
    body = MaskedVector(np.zeros(4, dtype=np.uint64), bytes(64)).encode()
    assert MaskedVector.decode(body, 4).masked.size == 4
    for wrong in (3, 5):
        with pytest.raises(SmrfedError, match="SMR-E119"):
            MaskedVector.decode(body, wrong)
