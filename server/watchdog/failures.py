"""What the end of a Flower run means: try again, wait for somebody, or never again like this."""

from __future__ import annotations

import re
from typing import Literal

#: ``again``: a crash, an outage; ``wait``: sites or disk space are missing, which takes people
#: hours; ``never``: the same files lead to the same error each time.
Verdict = Literal["again", "wait", "never"]

_CODE = re.compile(r"\[(SMR-E\d{3})\]")

_NEVER = frozenset(
    {
        "SMR-E101",  # the plan in the run directory cannot be read
        "SMR-E102",
        "SMR-E118",  # a key is missing or damaged
        "SMR-E502",
        "SMR-E515",
        "SMR-E521",  # the new parameters are not finite
        "SMR-E525",  # settings for a site that does not take part
        "SMR-E530",
        "SMR-E532",  # no checkpoint can be used
        "SMR-E535",
        "SMR-E555",  # deployment.toml
        "SMR-E556",
        "SMR-E561",  # altered receipts
        "SMR-E563",  # a site's key is not the plan's
        "SMR-E564",  # a file of the secure sums is damaged
        "SMR-E570",
        "SMR-E572",  # a stored release is damaged
        "SMR-E594",  # an addendum of another run
    }
)
_WAIT = frozenset({"SMR-E520", "SMR-E523", "SMR-E534", "SMR-E560", "SMR-E562"})


def code_in(details: str) -> str | None:
    """The number in what Flower says of a failed run; Flower passes the exception's words on."""
    found = _CODE.search(details)
    return found.group(1) if found else None


def verdict(details: str) -> Verdict:
    """What to do about a failure with these details; what is unknown is tried again."""
    code = code_in(details)
    if code in _NEVER:
        return "never"
    return "wait" if code in _WAIT else "again"


def in_a_line(details: str) -> str:
    """Details for a file and a terminal: one line, printable, bounded."""
    words = " ".join("".join(c if c.isprintable() else " " for c in details).split())
    return words.removeprefix("ServerApp failed with exception: ")[:1000]
