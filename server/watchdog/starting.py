"""Starts a run at the SuperLink, unless it runs: for the watchdog and for the operator alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorFolder
from server.flower.deployment import Deployment
from shared_model.errors import SmrfedError

if TYPE_CHECKING:  # imports Flower, which the commands that only read do without
    from server.flower.control import RunStatus


class SuperLink(Protocol):
    """What is needed of a SuperLink; every call raises SMR-E550 when it does not answer."""

    def newest_run(self, run_dir: Path) -> tuple[int, RunStatus] | None:
        """The newest Flower run on this run directory, and how it stands."""
        ...

    def start(self, run_dir: Path) -> int:
        """A new Flower run on this directory; its id."""
        ...

    def stop_run(self, run_id: int) -> None:
        """End a Flower run."""
        ...


Connect = Callable[[], AbstractContextManager[SuperLink]]


def connect_to(home: CoordinatorFolder) -> Connect:
    """Connections to the SuperLink of this coordinator, one after the other."""

    @contextmanager
    def connect() -> Iterator[SuperLink]:
        from server.flower.control import ControlApi
        from server.flower.fab import write_app_bundle

        class Link(ControlApi):
            def start(self, run_dir: Path) -> int:
                with tempfile.TemporaryDirectory() as folder:
                    return self.start_run(write_app_bundle(Path(folder)), run_dir)

        try:
            link = Link(home.config.superlink_address, home.authority)
        except OSError as error:
            raise SmrfedError(
                "SMR-E550",
                f"the SuperLink of {home.path} cannot be reached",
                expected=f"the certificate of the authority at {home.authority}",
                found=error,
                remedy="make the folder with smrfed-coordinator init",
            ) from None
        with link:
            yield link

    return connect


def prepare(run: RunDirectory, home: CoordinatorFolder) -> None:
    """Write ``deployment.toml`` where there is none; raises SMR-E555 and SMR-E118 for what lacks.

    So a run that could never start is refused before it is marked as wanted.
    """
    if not Deployment.exists(run.path):
        Deployment(
            coordinator_key=home.signing_key.resolve(), site_keys=home.site_keys.resolve()
        ).save(run.path)
    deployment = Deployment.load(run.path)
    deployment.public_keys(run.plan)
    if not deployment.coordinator_key.exists():
        raise SmrfedError(
            "SMR-E555",
            f"the signing key of {run.path} is missing",
            expected=f"a private key at {deployment.coordinator_key}",
            remedy="make it with smrfed-coordinator init, or correct deployment.toml",
        )
