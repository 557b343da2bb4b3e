"""The same key, the same bits: in any process, order and company."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_site import small_plan
from template_scan import template_scan

from client.training.augmentation.stream import augmentation_stream
from client.training.augmentation.views import PlannedViews
from shared_model.augmentation import AugmentationSection

PARTS = st.lists(st.one_of(st.text(max_size=6), st.integers(0, 2**63)), max_size=5)
KEYS = [("sub-1", 0, 0), ("sub-1", 0, 1), ("sub-1", 1, 0), ("sub-2", 0, 0), ("s\u00fcb", 0, 0)]


def views() -> PlannedViews:
    section = AugmentationSection(enabled=True, probability=1.0)
    planned = PlannedViews.of(small_plan("none").model_copy(update={"augmentation": section}))
    assert planned is not None
    return planned


def digests(keys: list[tuple[str, int, int]]) -> dict[str, str]:
    """Of a kept and of a fresh view, by key."""
    planned = views()
    volume = torch.from_numpy(template_scan().copy())[None, None]
    out = {}
    for patient, scan, number in keys:
        digest = hashlib.sha256(planned.kept(volume, patient, scan, number).numpy().tobytes())
        digest.update(planned.fresh(volume, patient, scan, 2, 1, number).numpy().tobytes())
        digest.update(str(planned.chosen(patient, scan, 8, 2, number)).encode())
        out[f"{patient} {scan} {number}"] = digest.hexdigest()
    return out


def test_another_process_in_another_order_with_other_threads_gives_the_same_bits() -> None:
    here = digests(KEYS)
    assert len(set(here.values())) == len(KEYS)
    code = (
        "import json, test_augmentation_determinism as t; "
        "print(json.dumps(t.digests(t.KEYS[::-1])))"
    )
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parent),
        "OMP_NUM_THREADS": "2" if torch.get_num_threads() == 1 else "1",
        "PYTHONHASHSEED": "5",
    }
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(found.stdout) == here


def test_global_seeds_have_no_influence() -> None:
    first = digests(KEYS[:1])
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert digests(KEYS[:1]) == first


@settings(max_examples=200, deadline=None)
@given(first=PARTS, second=PARTS)
def test_different_keys_give_different_streams(
    first: list[str | int], second: list[str | int]
) -> None:
    same = np.array_equal(
        augmentation_stream(*first).random(8), augmentation_stream(*second).random(8)
    )
    assert same == (first == second)


def test_the_parts_of_a_key_are_kept_apart() -> None:
    draws = {
        tuple(augmentation_stream(*key).random(2))
        for key in (
            ("a", "bc"),
            ("ab", "c"),
            ("abc",),
            ("a", "b", "c"),
            (1, 23),
            (12, 3),
            ("1", 23),
        )
    }
    assert len(draws) == 7


@settings(max_examples=50, deadline=None)
@given(
    patient=st.text(max_size=8),
    scan=st.integers(0, 9),
    count=st.integers(4, 40),
    step=st.integers(0, 10**6),
)
def test_a_step_draws_as_many_different_views_as_the_plan_says(
    patient: str, scan: int, count: int, step: int
) -> None:
    planned = views()
    chosen = planned.chosen(patient, scan, count, 1, step)
    assert len(set(chosen)) == planned.section.multiplicity
    assert set(chosen) <= set(range(count))


def test_every_view_of_a_scan_is_drawn_about_equally_often() -> None:
    planned = views()
    counts = np.bincount([v for s in range(1000) for v in planned.chosen("p", 0, 8, 1, s)])
    assert counts.min() > 400
    assert counts.max() < 600


def test_the_recipe_of_a_kept_view_names_all_that_decides_it_and_nothing_else() -> None:
    planned = views()
    plan = small_plan("none")

    def recipe(**changes: object) -> bytes:
        section = planned.section.model_copy(update=changes)
        other = PlannedViews.of(plan.model_copy(update={"augmentation": section}))
        assert other is not None
        return other.recipe("p", 0, 0)

    assert recipe() == recipe(multiplicity=2, views=64)
    assert recipe() != recipe(noise_sd=0.1)
    assert len({planned.recipe(*key) for key in KEYS}) == len(KEYS)
