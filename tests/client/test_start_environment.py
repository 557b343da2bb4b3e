"""The allocator's settings are there when training starts, and the user's own are kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from shared_model.start_environment import ALLOCATOR, start_environment

PROGRAM = """
import json, os, sys
from client.commands.serving import start_with_settings
with open(sys.argv[1], "a") as starts:
    starts.write("x")
start_with_settings(3)
print(json.dumps(dict(os.environ)))
"""


def start(tmp_path: Path, **environment: str) -> dict[str, str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    names = start_environment(1)
    bare = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "starts")],
        env=bare | environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_the_agents_program_starts_once_more_with_the_settings(tmp_path: Path) -> None:
    found = start(tmp_path)
    assert {name: found[name] for name in ALLOCATOR} == ALLOCATOR
    assert found["OMP_NUM_THREADS"] == "3"
    assert (tmp_path / "starts").read_text() == "xx"


def test_what_the_user_set_is_kept(tmp_path: Path) -> None:
    found = start(tmp_path, MALLOC_TOP_PAD_="1000", OMP_NUM_THREADS="7")
    assert found["MALLOC_TOP_PAD_"] == "1000"
    assert found["OMP_NUM_THREADS"] == "7"
    assert found["MALLOC_TRIM_THRESHOLD_"] == ALLOCATOR["MALLOC_TRIM_THRESHOLD_"]


def test_nothing_is_started_anew_when_all_is_set(tmp_path: Path) -> None:
    start(tmp_path, **start_environment(2))
    assert (tmp_path / "starts").read_text() == "x"
