"""The benchmark of the second preparation runs as its page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulations.benchmarks.second_prepare import measure


@pytest.mark.slow
def test_it_prepares_a_mock_archive_and_measures_two_runs(tmp_path: Path) -> None:
    first, second = measure(tmp_path / "mock", scans=3)
    assert first.cpu_seconds > 0
    assert second.cpu_seconds > 0
    derivatives = tmp_path / "mock" / "state" / "derivatives"
    assert len(list(derivatives.glob("sub-*"))) == 3
    assert (derivatives / "quality.html").read_text().count("data:image/png;base64,") == 3
