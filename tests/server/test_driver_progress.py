from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from toy_federation import COORDINATOR_KEY, ToyTransport, make_plan, make_run, site_keys

from server.rounds.driver import RoundDriver
from server.rounds.progress import progress_bar
from server.rounds.settings import DriverSettings
from server.rounds.transport import Failure


def test_the_bar_reaches_the_end_and_names_failed_sites(tmp_path: Path) -> None:
    plan = make_plan("a", "b")
    transport = ToyTransport("a", "b", faults={"b": lambda *_: Failure("no [memory] left")})
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress_bar(console) as observer:
        RoundDriver(
            plan,
            make_run(tmp_path / "run", plan),
            transport,
            COORDINATOR_KEY,
            site_keys(plan),
            observer,
            settings=DriverSettings.in_process(),
        ).run()
    text = console.file.getvalue()
    assert "round 1 (train): b: SMR-E504 no [memory] left" in text
    assert "4/4" in text
    assert "finalise, 1 sites in" in text
