"""Which versions of the protocol an installation speaks, and which one two of them have in common.

Version 1 is the only one so far. A later smrfed that changes the messages of the rounds speaks both
its own and the version before, so that hospitals upgrade one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared_model.errors import SmrfedError
from shared_model.protocol.messages import PROTOCOL_VERSION

#: Versions that this installation speaks.
SPOKEN: tuple[int, ...] = (PROTOCOL_VERSION,)


def common_version(ours: Iterable[int], theirs: Iterable[int], code: str, other: str) -> int:
    """The highest version that both speak.

    Raises ``code`` (SMR-E466 at a site, SMR-E597 at the coordinator) when there is none; ``other``
    names the other party.
    """
    mine, others = sorted(set(ours)), sorted(set(theirs))
    shared = set(mine) & set(others)
    if shared:
        return max(shared)
    behind = f"upgrade smrfed at {other}" if max(others, default=0) < mine[0] else "upgrade smrfed"
    raise SmrfedError(
        code,
        f"this installation and {other} speak no common version of the protocol",
        expected=f"one of {mine}",
        found=f"{other} speaks {others or 'none'}",
        remedy=f"{behind}; both sides keep their keys and their connection",
    )
