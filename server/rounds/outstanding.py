"""Questions of earlier rounds that a site may still answer: too late to count, but a sign of life.

A site that is busy with an earlier instruction is not given the next one on top: it would train for
rounds that are long over, one after the other, and pay for each out of its patients' budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.rounds.checks import Question


@dataclass(frozen=True)
class Earlier:
    """A message of a round that is over.

    Args:
        handle: the transport's, by which the answer is looked for.
        pushed: when it was sent.
        expires: when the transport forgets it.
    """

    question: Question
    handle: str
    pushed: float
    expires: float


class Outstanding:
    """What of the last exchange each site has not answered; lives as long as the driver's process.

    After a restart there is none: sites are then simply asked again.
    """

    def __init__(self) -> None:
        self._earlier: dict[str, list[Earlier]] = {}

    def take(self, site: str, now: float) -> list[Earlier]:
        """What a site may still answer at ``now``."""
        return [one for one in self._earlier.pop(site, []) if one.expires > now]

    def keep(self, site: str, earlier: list[Earlier]) -> None:
        """Remember what a site has not answered, at the end of an exchange."""
        if earlier:
            self._earlier[site] = earlier
