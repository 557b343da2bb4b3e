"""What a site says outside about a failure: a number and a fixed title, never what it found."""

from __future__ import annotations

import re

from shared_model.errors import SmrfedError

# Errors of protocol, agent, budget and policy are about messages and plans; others may depend on
# patients (an unreadable scan, a diverged update) and leave as one number: "not this time".
_MAY_LEAVE = re.compile(r"SMR-E([14]\d\d|30\d|31\d|36[012346]|370)")
_TITLE = "the site's agent declined; the hospital finds the reason in its log"
_CODE = re.compile(r"(SMR-E\d{3}) ")
# When the door opens is the hospital's own time table: public, and what the coordinator waits for.
_OPENS = re.compile(r"opens at (\d{4}-\d\d-\d\dT\d\d:\d\dZ)")


def site_failed(error: BaseException) -> SmrfedError:
    """The error under which a failure that is nobody else's business leaves: SMR-E410."""
    return SmrfedError(
        "SMR-E410",
        "the site could not do its part of the round",
        found=f"{type(error).__name__}: {error}",
        remedy="read state_dir/agent.log at the site; the same instruction can be sent again",
    )


def outward(error: SmrfedError) -> str:
    """The line that leaves the site for ``error``: code and title, no value and no name."""
    code = error.code if _MAY_LEAVE.fullmatch(error.code) else site_failed(error).code
    opening = _OPENS.search(str(error.found)) if code in ("SMR-E360", "SMR-E361") else None
    return f"{code} {_TITLE}" + (f"; opens at {opening[1]}" if opening else "")


def inward(line: str) -> SmrfedError | None:
    """The courier's view of a refusal line; ``None`` when the text is not one."""
    match = _CODE.match(line)
    if match is None:
        return None
    opening = _OPENS.search(line)
    return SmrfedError(
        match[1],
        _TITLE,
        found=opening[0] if opening else None,
        remedy=f"at the site: read state_dir/agent.log and docs/errors/{match[1]}.md",
    )
