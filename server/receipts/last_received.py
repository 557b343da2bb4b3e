"""What the next instruction to a site acknowledges."""

from __future__ import annotations

from server.rounds.history import Exchanges
from shared_model.protocol.acknowledgement import Received


def last_received(history: Exchanges, run_id: str, site: str) -> Received | None:
    """The last reply of a site in the checkpointed history; ``None`` when there is none yet.

    From the checkpoint alone, so that an instruction that is pushed again, by whatever process,
    is the same bytes.
    """
    for record in reversed(history):
        outcome = record.sites.get(site)
        if outcome is not None and outcome.reply_sha256 is not None:
            return Received(
                run_id=run_id,
                round=record.round,
                kind=record.kind,
                site=site,
                reply_sha256=outcome.reply_sha256,
                accepted=outcome.accepted,
                code=outcome.code,
            )
    return None
