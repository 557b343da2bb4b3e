"""What the checks look at: the configuration, the plan, and the connection, each read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.config import SiteConfig
from client.enrolment.connection import Connection, ConnectionFolder
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan


@dataclass(frozen=True)
class CheckedSite:
    """One hospital, as far as it is set up.

    Args:
        config: the configuration that could be read.
        plan_file: a plan to check against; none: the newest accepted one.
    """

    config: SiteConfig
    plan_file: Path | None = None

    @cached_property
    def state(self) -> StateFolder:
        """Where everything lies that the site keeps."""
        return StateFolder(self.config.state_dir)

    @cached_property
    def _plan(self) -> FederationPlan | SmrfedError | None:
        try:
            if self.plan_file is not None:
                return FederationPlan.load(self.plan_file)
            accepted = AcceptedPlans(self.state.plans).all()
        except SmrfedError as error:
            return error
        return accepted[-1].plan if accepted else None

    @property
    def plan(self) -> FederationPlan | None:
        """The plan; none where there is none, or none that can be read."""
        return None if isinstance(self._plan, SmrfedError) else self._plan

    def require_plan(self) -> FederationPlan | None:
        """The plan, or none before one is accepted; raises what kept it from being read."""
        if isinstance(self._plan, SmrfedError):
            raise self._plan
        return self._plan

    @property
    def connection_folder(self) -> ConnectionFolder:
        """The files of a joined hospital."""
        return self.config.connection

    @property
    def joined(self) -> bool:
        """Whether the hospital has joined, well or not; false where this account may not look."""
        return not self.connection_closed and self.connection_folder.file.exists()

    @property
    def connection_closed(self) -> bool:
        """Whether the connection is closed to this account: it is the network part's alone."""
        try:
            self.connection_folder.file.exists()
        except PermissionError:
            return True
        return False

    @cached_property
    def connection(self) -> Connection | None:
        """The connection; none before joining. Raises SMR-E460 when it is damaged."""
        return self.connection_folder.load() if self.joined else None

    @property
    def existing_folder(self) -> Path:
        """The state folder, or the nearest folder above it that exists."""
        folder = self.config.state_dir
        while not folder.exists():
            folder = folder.parent
        return folder
