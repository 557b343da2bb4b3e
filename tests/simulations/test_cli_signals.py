"""``smrfed-sim`` that is told to stop takes its worker processes along."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_stopped_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "simulations.cli", "demo", "--out", str(tmp_path / "demo")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # As from a terminal: what a script starts in the background inherits an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        # Patients are being written: the workers are at work.
        while not list(tmp_path.rglob("*_T1w.nii.gz")):
            assert demo.poll() is None, "the demonstration ended by itself"
            assert time.monotonic() < deadline, "no patient within two minutes"
            time.sleep(0.2)
        children = psutil.Process(demo.pid).children(recursive=True)
        assert children
        demo.send_signal(number)
        assert demo.wait(60) == 130
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
    finally:
        demo.kill()
