"""One patient moves what is noised by at most C, whatever is switched on."""

from __future__ import annotations

import pytest
import torch
from dp_engine_fixture import GivenGradients, engine, largest_move
from hypothesis import given, settings
from hypothesis import strategies as st
from small_site import FixedRandom, small_model, small_plan, token_patients
from torch import nn

from client.training.flat_parameters import FlatParameters
from client.training.patient_optimizer import CLIPPING_MARGIN


@settings(max_examples=60, deadline=None)
@given(
    power=st.integers(-30, 30),
    clip=st.floats(1e-6, 1e6),
    size=st.integers(1, 3000),
    seed=st.integers(0, 2**31),
)
def test_no_gradient_of_any_size_gets_past_the_clip(
    power: int, clip: float, size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    row = torch.randn(1, size, generator=generator, dtype=torch.float64) * 10.0**power
    flat = FlatParameters([nn.Parameter(torch.zeros(size))])
    clipped = engine(flat, GivenGradients(row), FixedRandom(), clip=clip).clipped_sum([])
    norm = float(clipped.norm())
    assert norm <= clip
    if float(row.norm()) < clip * 0.99 - 1e-6:
        assert norm == pytest.approx(float(row.norm()), rel=1e-12)
    # Opacus adds 1e-6 to the norm: the clip is tight where the norm is well above that.
    elif float(row.norm()) > max(clip, 1.0):
        assert norm >= clip * (1 - CLIPPING_MARGIN - 2e-6)


@pytest.mark.parametrize("clip", [1e-3, 0.1, 10.0])
def test_removing_a_patient_moves_the_clipped_sum_by_at_most_c(clip: float) -> None:
    site_model = small_model(small_plan())
    # Not a bit more, though the others are computed in a batch of another size.
    assert largest_move(site_model, token_patients(site_model, 5), clip) <= 1
