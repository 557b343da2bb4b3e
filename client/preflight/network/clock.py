"""Whether the hospital's clock and the coordinator's agree well enough for Flower."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from client.preflight.network.answer import HEALTH, Exchange
from client.preflight.network.way import Way
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note, NotLookedAt

#: Flower takes a request whose time is up to 5 s ahead of the coordinator's or 305 s behind it.
AHEAD_S = 5.0
BEHIND_S = 305.0
# A request that was signed a while before it is sent is older: room for that.
_MARGIN_S = 60.0
_NOTE_S = 2.5


def check_clock(way: Way) -> str:
    """Compare with the Date of the coordinator's answer (whole seconds); raises SMR-E437."""
    if not way.answered:
        raise NotLookedAt("no coordinator answers")
    found = Exchange(way, "GET", HEALTH)
    try:
        theirs = parsedate_to_datetime(found.date or "").timestamp()
    except (TypeError, ValueError):
        raise NotLookedAt("the answer carries no time") from None
    return judge(found.began, found.ended, theirs)


def judge(began: float, ended: float, date: float) -> str:
    """What a difference means; seconds since 1970, ``date`` cut to whole ones.

    The coordinator's clock showed a time in ``[date, date + 1)`` at some moment between ``began``
    and ``ended`` of this machine's clock: the difference is only known to lie in an interval.
    """
    least, most = began - date - 1.0, ended - date
    nearest = 0.0 if least <= 0.0 <= most else min((least, most), key=abs)
    if nearest >= AHEAD_S or nearest <= -(BEHIND_S - _MARGIN_S):
        raise SmrfedError(
            "SMR-E437",
            f"this machine's clock is {_words(nearest)} the coordinator's",
            expected=f"at most {AHEAD_S:g} s ahead and {BEHIND_S - _MARGIN_S:g} s behind: the "
            "coordinator refuses requests beyond that",
            found=f"{nearest:+.0f} s",
            remedy="let chrony, ntpd or systemd-timesyncd set the clock (timedatectl); if it is "
            "right, the coordinator's is wrong: tell them",
        )
    if abs(nearest) > _NOTE_S:
        return Note(f"{_words(nearest)} the coordinator's; let a time service set it")
    return f"agrees with the coordinator's to {max(abs(least), abs(most)):.1f} s"


def _words(difference_s: float) -> str:
    return f"{abs(difference_s):.0f} s {'ahead of' if difference_s > 0 else 'behind'}"
