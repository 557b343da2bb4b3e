"""Samples of deformation fields: bit for bit scipy's, wherever they are taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from simulations.cohort.trilinear import sample


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    components=st.integers(1, 4),
    places=st.integers(0, 60),
    seed=st.integers(0, 2**32 - 1),
    on_nodes=st.booleans(),
)
def test_the_bits_are_scipys(
    shape: tuple[int, int, int], components: int, places: int, seed: int, on_nodes: bool
) -> None:
    draw = np.random.default_rng(seed)
    fields = draw.normal(size=(components, *shape)).astype(np.float32)
    where = draw.uniform(-2.0, np.asarray(shape)[:, None] + 1.0, (3, places)).astype(np.float32)
    where = np.rint(where) if on_nodes else where
    expected = [map_coordinates(part, where, order=1, mode="nearest") for part in fields]
    assert sample(fields, where).tobytes() == np.stack(expected).tobytes()


@pytest.mark.parametrize("places", [(8191,), (8192,), (8193,), (41, 20, 20)])
def test_blocks_leave_no_seam(places: tuple[int, ...]) -> None:
    draw = np.random.default_rng(3)
    fields = draw.normal(size=(3, 20, 24, 20)).astype(np.float32)
    where = draw.uniform(-1.0, 21.0, (3, *places)).astype(np.float32)
    expected = [map_coordinates(part, where, order=1, mode="nearest") for part in fields]
    assert np.array_equal(sample(fields, where), np.stack(expected))
