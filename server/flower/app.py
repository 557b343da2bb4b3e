"""The coordinator's Flower ServerApp: the round driver over a SuperLink.

Imports no torch: the initial parameters are made beforehand and lie in the run directory. Flower
cannot resume a run, so a run directory is driven by as many Flower runs as it takes, each going on
from the last checkpoint.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.checkpoints.run_directory import RunDirectory
from server.enrolment.members import Members
from server.flower.deployment import Deployment
from server.flower.event_log import EventLog
from server.flower.transport import FlowerTransport
from server.rounds.driver import RoundDriver
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import load_signing_key

RUN_DIR_KEY = "run-dir"
_LOCK_PATIENCE_S = 90.0


def drive(grid: Grid, context: Context) -> None:
    """Drive the run in the directory that the run configuration names (SMR-E556 without)."""
    given = context.run_config.get(RUN_DIR_KEY)
    if not isinstance(given, str) or not given:
        raise SmrfedError(
            "SMR-E556",
            "the run configuration names no run directory",
            expected=f"{RUN_DIR_KEY}: an absolute path",
            found=given,
            remedy=f"start it with: flwr run BUNDLE --run-config '{RUN_DIR_KEY}=\"...\"'",
        )
    run_dir = RunDirectory.open(Path(given))
    deployment = Deployment.load(run_dir.path)
    keys = deployment.public_keys(run_dir.plan)
    driver = RoundDriver(
        run_dir.plan,
        run_dir,
        FlowerTransport(grid),
        partial(load_signing_key, deployment.coordinator_key),
        keys,
        EventLog(run_dir.path),
        members=Members(run_dir, keys, deployment.site_keys),
        settings=deployment.driver,
    )
    # The ServerApp of a run that was stopped a moment ago may take a while to notice.
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            driver.run()
            return
        except SmrfedError as error:
            if error.code != "SMR-E533" or time.monotonic() > deadline:
                raise
            time.sleep(1.0)


app = ServerApp()
app.main()(drive)
