"""The two messages of the protocol: an instruction to a site, and the site's reply."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared_model.errors import SmrfedError
from shared_model.plan import Sha256, SiteName
from shared_model.protocol.acknowledgement import Acknowledgement
from shared_model.protocol.arrays import body_digest
from shared_model.protocol.sealed import Sealed

PROTOCOL_VERSION: Literal[1] = 1

#: ``train``: a round; ``moments``, ``calibrate``, ``evaluate``: sums over patients; ``finalise``.
Kind = Literal["train", "evaluate", "calibrate", "moments", "finalise"]

RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol_version: Literal[1] = PROTOCOL_VERSION
    run_id: RunId
    round: int = Field(ge=1, le=1_000_000)
    kind: Kind
    site: SiteName
    plan_digest: Sha256
    body_sha256: Sha256 = Field(description="digest of the arrays that travel in the body")

    @property
    def canonical_json(self) -> bytes:
        """The header's bytes: sorted, compact, finite numbers only."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()


class RoundInstruction(_Header):
    """What the coordinator asks of one site: train from these shared parameters, or look at them.

    ``train``: body = the shared parameters of the round. ``evaluate``, ``calibrate``, ``moments``:
    body = the shared parameters to look at, with test or training patients; only when the plan
    announces it (:mod:`shared_model.releases.schedule`). ``finalise``: body = the last released
    shared parameters; the site stores them, personalises locally, and replies with an empty body.
    Once moments were released, every body holds those of all sites as well
    (:mod:`shared_model.adaptation.wire`).
    The header holds no time stamp: a re-pushed instruction is the same bytes.
    """

    acknowledged: Acknowledgement | None = Field(
        default=None, description="the last reply of this site that the coordinator received"
    )


class RoundReply(_Header):
    """What a site sends back: the update of the shared parameters; nothing else in mode ``local``.

    ``train``: body = delta (site minus global) of every shared parameter. ``evaluate``,
    ``calibrate``, ``moments``: body = the sums of :mod:`shared_model.releases.statistics`, noised
    in every mode but ``none``. ``finalise``: empty body.
    """

    instruction_sha256: Sha256 = Field(description="digest of the instruction that this answers")
    metrics: dict[str, float] = Field(
        default_factory=dict, max_length=64, description="mode none only; empty otherwise"
    )


_H = TypeVar("_H", bound=_Header)


def decode_header(model: type[_H], sealed: Sealed) -> _H:
    """Parse a header that may be hostile; raises SMR-E116 (malformed) or SMR-E117 (body exchanged).

    Only the canonical form is read: no repeated names, no other spelling of the same content.
    The caller verifies the signature first (:meth:`Sealed.verify`).
    """
    try:
        data: Any = json.loads(sealed.header)
        header = model.model_validate(data)
        if header.canonical_json != sealed.header:
            raise ValueError("not in canonical form")
    except (ValueError, RecursionError) as error:
        detail = (
            "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
            if isinstance(error, ValidationError)
            else f"{type(error).__name__}"
        )
        raise SmrfedError(
            "SMR-E116",
            f"a {model.__name__} header cannot be read",
            found=detail,
            expected=f"protocol version {PROTOCOL_VERSION}",
            remedy="check that both ends run the same smrfed version; if so, refuse the sender",
        ) from None
    if header.body_sha256 != body_digest(sealed.body):
        raise SmrfedError(
            "SMR-E117",
            f"the body of a {model.__name__} is not the one its header names",
            expected=header.body_sha256,
            found=body_digest(sealed.body),
            remedy="ask for the message again; if it repeats, refuse the sender",
        )
    return header
