"""Secrets of masks do not outlive a run that nobody finalised."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from client.agent.mask_leftovers import KEPT_BESIDE_ANOTHER_S, KEPT_S, remove_quiet_runs

MINUTE_S = 60.0


def leave_behind(masks: Path, run: str, quiet_s: float) -> Path:
    """A run that was asked something last so many seconds ago; the path of its secret."""
    block = masks / run / "0000001"
    block.mkdir(parents=True)
    for name in ("secret", "shares", "order-0000001.json"):
        (block / name).write_bytes(b"x" * 32)
    then = time.time() - quiet_s
    for path in (block / "secret", block / "shares"):
        os.utime(path, (then - 1e6, then - 1e6))
    for path in (block / "order-0000001.json", block, block.parent):
        os.utime(path, (then, then))
    return block / "secret"


@pytest.mark.parametrize("quiet_s", [MINUTE_S, KEPT_S - MINUTE_S, KEPT_S + MINUTE_S])
def test_a_quiet_run_goes_after_its_time(tmp_path: Path, quiet_s: float) -> None:
    secret = leave_behind(tmp_path / "masks", "one", quiet_s)
    remove_quiet_runs(tmp_path / "masks")
    assert secret.parents[1].exists() == secret.exists() == (quiet_s < KEPT_S)


def test_it_goes_earlier_when_another_run_asks_and_never_for_its_own_question(
    tmp_path: Path,
) -> None:
    masks = tmp_path / "masks"
    asking = leave_behind(masks, "asking", KEPT_BESIDE_ANOTHER_S + MINUTE_S)
    quiet = leave_behind(masks, "quiet", KEPT_BESIDE_ANOTHER_S + MINUTE_S)
    takes_turns = leave_behind(masks, "takes-turns", MINUTE_S)
    remove_quiet_runs(masks, "asking")
    assert asking.exists()
    assert takes_turns.exists()
    assert not quiet.parents[1].exists()


def test_a_site_that_never_masked_anything_has_nothing_to_remove(tmp_path: Path) -> None:
    remove_quiet_runs(tmp_path / "masks", "run")
    assert not (tmp_path / "masks").exists()
