"""Checks that run beside each other, each with a limit of its own, and what they found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared_model.errors import SmrfedError

Level = Literal["ok", "note", "problem", "skipped"]


class Note(str):
    """What a check found where it stops nobody, and a person should know it nevertheless."""


class NotLookedAt(Exception):  # noqa: N818 - no error: what it needs is not there
    """Raised by a check that cannot look, with the reason in a few words."""


@dataclass(frozen=True)
class Check:
    """One thing to look at; ``look`` returns what it found, or raises a numbered error.

    Args:
        group: checks of one group are run with ``--only``.
        what: two or three words.
        look: returns a text, or a :class:`Note`; raises :class:`SmrfedError` or NotLookedAt.
        limit_s: after so many seconds it is left alone and counts as a problem.
    """

    group: str
    what: str
    look: Callable[[], str]
    limit_s: float = 10.0


@dataclass(frozen=True)
class Finding:
    """What a check found or what went wrong; ``error`` where ``level`` is ``problem``."""

    group: str
    what: str
    level: Level
    found: str
    error: SmrfedError | None = None

    def as_json(self) -> dict[str, Any]:
        """As a script reads it; an error's details stay on the screen: they may quote a table."""
        facts: dict[str, Any] = {
            "group": self.group,
            "what": self.what,
            "level": self.level,
            "found": self.found,
            "code": None if self.error is None else self.error.code,
        }
        if self.error is not None:
            facts |= {"remedy": self.error.remedy, "page": page_of(self.error.code)}
        return facts


def page_of(code: str) -> str:
    """Where an error's page lies in the repository and in the installed documentation."""
    return f"docs/errors/{code}.md"


class Trouble:
    """The numbers for a check that itself goes wrong: they differ between site and coordinator."""

    def __init__(self, code: str) -> None:
        self._code = code

    def failed(self, check: Check, error: BaseException) -> SmrfedError:
        """The error for a check that raised what it should not; the others are not hidden."""
        return SmrfedError(
            self._code,
            f"the check {check.what!r} itself failed",
            found=f"{type(error).__name__}: {error}"[:300],
            remedy="correct what the message names if it is clear; otherwise report it with the "
            "version of smrfed",
        )

    def too_slow(self, check: Check) -> SmrfedError:
        """The error for a check that did not end."""
        return SmrfedError(
            self._code,
            f"the check {check.what!r} did not end",
            expected=f"an answer within {check.limit_s:g} s",
            found="none; a disk or a network drive that hangs looks like this",
            remedy="look whether the file systems of site.toml answer (ls, df), then try again",
        )


def run_checks(checks: Sequence[Check], trouble: Trouble) -> Iterator[Finding]:
    """The findings in the order of ``checks``, each as soon as it is known.

    Checks of one group run one after the other, the groups beside each other. What a check raises
    becomes its own finding. One that hangs is left to its daemon thread.
    """
    found: dict[int, Finding] = {}
    known = [threading.Event() for _ in checks]

    def lane(group: str) -> None:
        for number, check in enumerate(checks):
            if check.group == group:
                found[number] = _within_limit(check, trouble)
                known[number].set()

    for group in dict.fromkeys(check.group for check in checks):
        threading.Thread(target=lane, args=(group,), daemon=True, name=f"check-{group}").start()
    for number, ready in enumerate(known):
        ready.wait()
        yield found[number]


def _within_limit(check: Check, trouble: Trouble) -> Finding:
    result: list[Finding] = []

    def work() -> None:
        result.append(_look(check, trouble))

    thread = threading.Thread(target=work, daemon=True, name=f"check-{check.what}")
    thread.start()
    thread.join(check.limit_s)
    if result:
        return result[0]
    error = trouble.too_slow(check)
    return Finding(check.group, check.what, "problem", error.what, error)


def _look(check: Check, trouble: Trouble) -> Finding:
    try:
        text = check.look()
    except NotLookedAt as reason:
        return Finding(check.group, check.what, "skipped", str(reason))
    except SmrfedError as error:
        return Finding(check.group, check.what, "problem", error.what, error)
    except BaseException as error:
        failed = trouble.failed(check, error)
        return Finding(check.group, check.what, "problem", failed.what, failed)
    level: Level = "note" if isinstance(text, Note) else "ok"
    return Finding(check.group, check.what, level, str(text))
