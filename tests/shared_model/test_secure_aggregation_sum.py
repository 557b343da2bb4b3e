"""The decrypted sum is the plain sum, bit for bit, whoever drops out; or nothing is decrypted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_federation import Masked, block_of, names, plain_sum, secret_of, vectors

from shared_model.errors import SmrfedError
from shared_model.secure_aggregation.block import quorum_is_safe
from shared_model.secure_aggregation.layout import Layout
from shared_model.secure_aggregation.site import SiteSession

NUMBERS = 37


@st.composite
def courses(draw: st.DrawFn) -> dict[str, object]:
    """Sites, terms, and who is still there after each phase: any way at all."""
    sites = draw(st.integers(2, 10))
    threshold = draw(st.integers(2, sites))
    smallest = draw(st.integers(threshold, sites))
    remaining = list(names(sites))
    phases = []
    for _ in range(4):
        keep = draw(st.lists(st.booleans() | st.just(True), min_size=sites, max_size=sites))
        remaining = [site for site, stays in zip(remaining, keep, strict=False) if stays]
        phases.append(tuple(draw(st.permutations(remaining))))
    return {
        "terms": (sites, threshold, smallest),
        "phases": phases,
        "first": draw(st.integers(1, 1000)),
        "offset": draw(st.integers(0, 2)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def open_or_void(course: dict[str, object]) -> str | None:
    """Run a course; the code with which it was refused, or none and the sum was right."""
    sites, threshold, smallest = course["terms"]  # type: ignore[misc]
    present, sharing, sending, answering = course["phases"]  # type: ignore[misc]
    first = course["first"]
    block = block_of(sites, threshold, smallest, rounds=3, first_round=first)
    values = vectors(names(sites), NUMBERS, course["seed"])
    number = first + course["offset"]
    federation = Masked(block)
    total = None
    try:
        federation.agree(present, sharing)
        total = federation.begin(number, federation.setup.sharers, NUMBERS)
        for site in sending:
            total.add(site, federation.masked(total, number, site, values[site]))
        total.close()
        for site in answering:
            total.add_answer(site, federation.answer(total, number, site))
        before = total._sum.copy()
        opened = total.open()
    except SmrfedError as error:
        if total is not None and len(sending) >= smallest:
            assert (total._sum == before).all()  # nothing was decrypted, not even in part
        return error.code
    np.testing.assert_array_equal(opened, plain_sum(values, sending))
    return None


@settings(max_examples=60, deadline=None)
@given(course=courses())
def test_the_sum_is_exact_or_void_whoever_drops_out_in_whatever_phase(course) -> None:
    _, threshold, smallest = course["terms"]
    present, sharing, sending, answering = course["phases"]
    if len(present) < smallest:
        expected = "SMR-E132" if sharing else "SMR-E137"
    elif len(sending) < smallest:
        expected = "SMR-E137"
    elif len(answering) < threshold:
        expected = "SMR-E138"
    else:
        expected = None
    assert open_or_void(course) == expected


@pytest.mark.parametrize("dropping", ["keys", "shares", "vectors", "answers"])
@pytest.mark.parametrize("sites", [3, 4, 7])
def test_dropouts_up_to_the_threshold_in_one_phase(sites: int, dropping: str) -> None:
    threshold = smallest = sites // 2 + 1
    assert quorum_is_safe(sites, threshold, 0)
    for gone in range(sites):
        everyone = names(sites)
        left = everyone[gone:]
        at = ("keys", "shares", "vectors", "answers").index(dropping)
        course = {
            "terms": (sites, threshold, smallest),
            "phases": [everyone] * at + [left] * (4 - at),
            "first": 5,
            "offset": 1,
            "seed": gone,
        }
        assert (open_or_void(course) is None) == (len(left) >= threshold)


@st.composite
def large_courses(draw: st.DrawFn) -> dict[str, object]:
    """33 to 64 sites, of which some go in each phase: about as many sums as void rounds."""
    sites = draw(st.integers(33, 64))
    threshold = sites // 2 + 1
    remaining, phases = list(names(sites)), []
    for _ in range(4):
        going = draw(st.sets(st.sampled_from(remaining), max_size=sites // 6))
        remaining = [site for site in remaining if site not in going]
        phases.append(tuple(draw(st.permutations(remaining))))
    return {
        "terms": (sites, threshold, draw(st.integers(threshold, sites - sites // 4))),
        "phases": phases,
        "first": draw(st.integers(1, 1000)),
        "offset": draw(st.integers(0, 2)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(course=large_courses())
def test_the_same_with_up_to_sixty_four_sites(course) -> None:
    test_the_sum_is_exact_or_void_whoever_drops_out_in_whatever_phase.hypothesis.inner_test(course)


def test_sixty_four_sites_with_a_third_of_them_gone() -> None:
    sites = names(64)
    block = block_of(64, 33, 40, rounds=1)
    values = vectors(sites, 5, 1)
    federation = Masked(block).agree(sites[:60])
    total = federation.round(1, values, federation.setup.sharers, sites[10:52], sites[15:48])
    np.testing.assert_array_equal(total.open(), plain_sum(values, sites[10:52]))


def test_a_restarted_site_gives_the_same_bytes() -> None:
    sites = names(4)
    first, second = (Masked(block_of(4, 3, 3)).agree(sites) for _ in range(2))
    values = vectors(sites, NUMBERS, 1)
    for federation in (first, second):
        federation.round(2, values, sites, sites[:3], sites[:3])
    assert first.transcript == second.transcript
    other = Masked(block_of(4, 3, 3), seed=1).agree(sites)
    assert all(
        other.transcript[key] != value
        for key, value in first.transcript.items()
        if key in other.transcript
    )


def test_a_round_may_name_fewer_sites_than_the_block_has() -> None:
    # A site that is known to be away costs nothing when no vector is masked for it.
    sites = names(5)
    values = vectors(sites, NUMBERS, 1)
    federation = Masked(block_of(5, 3, 3)).agree(sites)
    for number, maskers in ((1, sites), (2, sites[1:])):
        total = federation.round(number, values, maskers, maskers[1:], maskers[1:])
        np.testing.assert_array_equal(total.open(), plain_sum(values, maskers[1:]))


def test_up_to_two_wrong_shares_are_worked_around_and_named() -> None:
    sites = names(6)
    values = vectors(sites, NUMBERS, 1)
    for liars in (sites[2:3], sites[1:3], sites[1:4]):
        federation = Masked(block_of(6, 3, 3)).agree(sites)
        total = federation.round(1, values, sites, sites[:5], ())
        for site in sites[:5]:
            body = federation.answer(total, 1, site)
            if site in liars:  # a share of round 2 in place of that of round 1
                session = federation.sessions[site]
                point = federation.block.point(site)
                own = session._keys.shares(2, (point,))[point][0]
                right = session._keys.shares(1, (point,))[point][0]
                assert body.count(right) == 1
                body = body.replace(right, own)
            total.add_answer(site, body)
        np.testing.assert_array_equal(total.open(), plain_sum(values, sites[:5]))
        assert total.wrong_shares == liars


def test_more_wrong_shares_open_nothing() -> None:
    sites = names(4)
    federation = Masked(block_of(4, 3, 3)).agree(sites)
    values = vectors(sites, NUMBERS, 1)
    total = federation.round(1, values, sites, sites, sites[:2])
    body = bytearray(federation.answer(total, 1, sites[2]))
    body[-1] ^= 1
    total.add_answer(sites[2], bytes(body))
    before = total._sum.copy()
    with pytest.raises(SmrfedError, match="SMR-E139"):
        total.open()
    assert (total._sum == before).all()
    # One honest answer more, and it works.
    total.add_answer(sites[3], federation.answer(total, 1, sites[3]))
    np.testing.assert_array_equal(total.open(), plain_sum(values, sites))
    assert total.wrong_shares == (sites[2],)
    with pytest.raises(ValueError, match="opened before"):
        total.open()


def test_a_session_is_a_function_of_the_secret_and_what_was_relayed() -> None:
    sites = names(3)
    federation = Masked(block_of(3, 2, 2)).agree(sites)
    again = SiteSession.open(
        federation.block, sites[0], secret_of(sites[0]), federation.setup.relayed()
    )
    assert again.encrypted_shares() == federation.sessions[sites[0]].encrypted_shares()


SHAPES = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    max_size=5,
)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_a_layout_flattens_and_restores(shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.integers(-(2**63), 2**63 - 1, shape) for name, shape in shapes.items()}
    layout = Layout(shapes)
    flat = layout.flatten(dict(reversed(arrays.items())))
    assert flat.shape == (layout.numbers,)
    restored = layout.restore(flat)
    assert list(restored) == sorted(shapes)
    for name, array in arrays.items():
        np.testing.assert_array_equal(restored[name], array)
    with pytest.raises(ValueError, match="numbers"):
        layout.restore(np.zeros(layout.numbers + 1, dtype=np.uint64))
    if arrays:
        with pytest.raises(ValueError, match="not those"):
            layout.flatten({})
