"""The conversation with one site within one round, and the words in which it is told."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from server.rounds.checks import Question
from server.rounds.outstanding import Earlier
from server.rounds.patience import Patience
from server.rounds.records import SiteOutcome
from shared_model.errors import SmrfedError
from shared_model.protocol.acknowledgement import Received
from shared_model.protocol.sealed import Sealed

_log = logging.getLogger(__name__)


@dataclass
class Talk:
    """Where the conversation with one site stands; times are of the driver's monotonic clock.

    Args:
        started: when the attempt began; ``deadline_s`` and ``patience_s`` count from here.
        earlier: what the site was asked before and may still be busy with.
        asked: when this question went out for the first time; none: it did not.
        waited_for: a late answer came: the site is there, and is given its whole deadline.
        spent: so many failures that nobody waits for the next try.
    """

    question: Question
    times: Patience
    started: float
    earlier: list[Earlier] = field(default_factory=list)
    handles: list[str] = field(default_factory=list)
    next_push: float = 0.0
    asked: float | None = None
    pushed: float = 0.0
    pushes: int = 0
    failures: int = 0
    connected: bool = True
    waited_for: bool = False
    spent: bool = False
    problem: tuple[str, str] | None = None
    outcome: SiteOutcome | None = None

    @property
    def site(self) -> str:
        """Who is asked."""
        return self.question.site

    @property
    def deadline(self) -> float:
        """When the round is over for this site."""
        return self.started + self.times.deadline_s

    def patient_until(self) -> float:
        """When nobody waits for this site any longer, once the quorum is in."""
        if self.waited_for:
            return self.deadline
        since = self.asked if self.times.patience_s < self.times.deadline_s else None
        return (self.started if since is None else since) + self.times.patience_s

    def last_word(self) -> tuple[str, str]:
        """Why a site that is still undecided is set aside now."""
        if self.problem is not None and not (self.handles and self.connected and not self.spent):
            return self.problem
        if not self.handles and self.earlier:
            round_number = self.earlier[-1].question.instruction.round
            return "SMR-E503", f"no answer to round {round_number} yet, so it was not asked more"
        before = f"; before that: {' '.join(self.problem)}" if self.problem else ""
        waited = min(self.times.deadline_s, self.times.patience_s)
        if self.waited_for:
            waited = self.times.deadline_s
        if waited < self.times.deadline_s:
            return "SMR-E503", f"not waited for beyond {waited:g} s, the quorum was in{before}"
        return "SMR-E503", f"no answer within {self.times.deadline_s:g} s{before}"


def received(question: Question, answer: Sealed, code: str | None = None) -> Received:
    """What a receipt says of a message that arrived in place of an answer to ``question``."""
    asked = question.instruction
    return Received(
        run_id=asked.run_id,
        round=asked.round,
        kind=asked.kind,
        site=asked.site,
        reply_sha256=answer.digest.hex(),
        accepted=code is None,
        code=code,
    )


def explain(error: Exception, site: str) -> tuple[str, str]:
    """Number and one sentence for whatever went wrong with one site."""
    if isinstance(error, SmrfedError):
        found = "" if error.found is None else f" (found: {str(error.found)[:200]})"
        return error.code, plain(error.what + found)
    # A defect of ours or of the transport must cost one site one round, not everybody the run.
    _log.exception("unexpected error with site %s", site, exc_info=error)
    return "SMR-E519", plain(f"unexpected {type(error).__name__}: {error}")


def plain(text: str) -> str:
    """Words that may be a stranger's, fit for a terminal and a JSON file: printable, bounded."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]
