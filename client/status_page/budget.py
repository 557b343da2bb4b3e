"""What the ledger says: figures, a drawing over time, and the policy held against the plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.agent.acceptance import Acceptance, AcceptedPlans
from client.agent.state import StateFolder
from client.commands.policy import explained
from client.config import SiteConfig
from client.egress.explanation import Line
from client.egress.policy import SitePolicy
from client.ledger_view.drawing import drawing
from client.ledger_view.opened import kept_receipts, opened_ledger
from client.ledger_view.overview import Overview, overview
from client.ledger_view.timeline import timeline
from shared_model.errors import SmrfedError


@dataclass(frozen=True)
class Plan:
    """An accepted plan."""

    name: str
    digest: str
    accepted_at: str
    mode: str
    rounds: int


@dataclass(frozen=True)
class Budget:
    """Figures of the ledger with a drawing, and the policy; ``problems`` where one is damaged.

    ``answers``: the newest plan held against the policy, line by line.
    """

    plans: tuple[Plan, ...] = ()
    overview: Overview | None = None
    picture: str = ""
    policy: SitePolicy | None = None
    answers: tuple[Line, ...] = ()
    problems: tuple[SmrfedError, ...] = ()


class BudgetReader:
    """Reads again only when one of the files has changed."""

    def __init__(self, site: SiteConfig) -> None:
        self._site = site
        self._state = StateFolder(site.state_dir)
        self._known: tuple[object, Budget] | None = None

    def look(self) -> Budget:
        """The figures as they are now."""
        seen = self._signature()
        if self._known is None or self._known[0] != seen:
            self._known = seen, self._read()
        return self._known[1]

    def _read(self) -> Budget:
        site, state = self._site, self._state
        problems: list[SmrfedError] = []
        accepted: tuple[Acceptance, ...] = ()
        answers: tuple[Line, ...] = ()
        policy, figures, picture = None, None, ""
        try:
            accepted = AcceptedPlans(state.plans).all()
        except SmrfedError as error:
            problems.append(error)
        plans = [one.plan for one in accepted]
        try:
            policy = SitePolicy.load(site.policy)
            with opened_ledger(state, policy.max_epsilon) as ledger:
                figures = overview(ledger, policy, plans, kept_receipts(state))
                if figures.entries:
                    names = {plan.digest: plan.name for plan in plans}
                    curves = timeline(ledger, policy.max_delta)
                    picture = drawing(curves, names, policy.max_epsilon, policy.max_delta)
            if accepted:
                answers = explained(site, policy, plans[-1], accepted[-1].outgoing)
        except SmrfedError as error:
            problems.append(error)
        return Budget(
            plans=tuple(
                Plan(
                    one.plan.name,
                    one.plan.digest,
                    one.accepted_at,
                    one.plan.privacy.mode,
                    one.plan.training.rounds,
                )
                for one in accepted
            ),
            overview=figures,
            picture=picture,
            policy=policy,
            answers=answers,
            problems=tuple(problems),
        )

    def _signature(self) -> object:
        ledger = self._state.ledger
        paths = [ledger, self._site.policy, self._state.receipts, *self._state.plans.glob("*")]
        paths += [Path(f"{ledger}{end}") for end in ("-wal", ".head")]
        found = []
        for path in paths:
            try:
                about = path.stat()
            except OSError:
                continue
            found.append((str(path), about.st_ino, about.st_size, about.st_mtime_ns))
        return tuple(found)
