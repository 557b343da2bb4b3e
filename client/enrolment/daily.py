"""``smrfed-site renew --daily``: what is new at the coordinator, asked without anybody's help.

It takes in what ``renew`` takes in, and nothing more: a next coordinator key that the known one
vouches for and the policy allows, and a courier where ``site.toml`` says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

from client.config import SiteConfig
from client.enrolment.renewing import Renewed, renew
from shared_model.errors import SmrfedError
from shared_model.supervision.end_signals import EndSignals

_DAY_S = 86400.0
_AGAIN_S = 3600.0
# Not all hospitals at the same minute.
_SPREAD_S = 1800


def renew_daily(config: SiteConfig, end: EndSignals, say: Callable[[str], None]) -> None:
    """Renew every day, and every hour while that fails; returns when the process is told to end.

    ``say`` is told what changed and what went wrong, never the same twice in a row.
    """
    said = ""
    while True:
        try:
            told, pause_s = news(renew(config)), _DAY_S
        except SmrfedError as error:
            told, pause_s = f"{error.code} {error.what}: {error.found}", _AGAIN_S
        if told and told != said:
            say(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {told}")
        said = told
        if end.wait(pause_s + secrets.randbelow(_SPREAD_S)):
            return


def news(done: Renewed) -> str:
    """What a person should hear of, in a line; empty when nothing is new."""
    found = []
    if done.changed_coordinator:
        found.append(f"the coordinator signs with another key now: {done.coordinator}")
    if done.next_coordinator is not None:
        found.append(f"the coordinator's next key is accepted: {done.next_coordinator}")
    if done.unallowed_courier:
        others = ", ".join(done.unallowed_courier)
        found.append(f"another courier does not run here until smrfed-site allow-courier {others}")
    return "; ".join(found)
