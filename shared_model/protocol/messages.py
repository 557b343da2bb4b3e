"""The two messages of the protocol: an instruction to a site, and the site's reply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
)
from typing_extensions import TypeIs

from shared_model.errors import SmrfedError
from shared_model.plan import Sha256, SiteName
from shared_model.protocol.acknowledgement import Acknowledgement
from shared_model.protocol.arrays import body_digest
from shared_model.protocol.sealed import Sealed
from shared_model.secure_aggregation.messages import MaskingOrder, UnmaskOrder

PROTOCOL_VERSION: Literal[1] = 1

#: ``train``: a round; ``moments``, ``calibrate``, ``evaluate``: sums over patients; ``finalise``.
#: ``keys``, ``shares``, ``unmask``: around a round of secure aggregation.
Kind = Literal["keys", "shares", "train", "unmask", "evaluate", "calibrate", "moments", "finalise"]

#: Exchanges about masks alone: no patient is looked at, and no budget spent.
MaskKind = Literal["keys", "shares", "unmask"]
MASK_KINDS: tuple[MaskKind, ...] = ("keys", "shares", "unmask")


def is_about_masks(kind: Kind) -> TypeIs[MaskKind]:
    """Whether an exchange of this kind is about masks alone."""
    return kind in MASK_KINDS


RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class AnyHeader(BaseModel):
    """What every header says, whatever it asks or answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol_version: Literal[1] = PROTOCOL_VERSION
    run_id: RunId
    round: int = Field(ge=1, le=1_000_000)
    site: SiteName
    plan_digest: Sha256
    body_sha256: Sha256 = Field(description="digest of the arrays that travel in the body")

    @property
    def canonical_json(self) -> bytes:
        """The header's bytes: sorted, compact, finite numbers only."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()


class _Header(AnyHeader):
    kind: Kind


class RoundInstruction(_Header):
    """What the coordinator asks of one site: train from these shared parameters, or look at them.

    ``train``: body = the shared parameters of the round. ``evaluate``, ``calibrate``, ``moments``:
    body = the shared parameters to look at, with test or training patients; only when the plan
    announces it (:mod:`shared_model.releases.schedule`). ``finalise``: body = the last released
    shared parameters; the site stores them, personalises locally, and replies with an empty body.
    Once moments were released, every body holds those of all sites as well
    (:mod:`shared_model.adaptation.wire`).
    ``keys``, ``shares``, ``unmask`` and the field ``masking`` of ``train``: only under a plan with
    secure aggregation (:mod:`shared_model.secure_aggregation.messages`).
    The header holds no time stamp: a re-pushed instruction is the same bytes.
    """

    acknowledged: Acknowledgement | None = Field(
        default=None, description="the last reply of this site that the coordinator received"
    )
    masking: MaskingOrder | None = Field(
        default=None, description="for which sites to mask a vector; left out where there is none"
    )
    unmasking: UnmaskOrder | None = Field(
        default=None, description="whose vectors a sum holds; left out where there is none"
    )

    @model_serializer(mode="wrap")
    def _without_empty_orders(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out orders that are not given: other instructions keep their bytes."""
        said: dict[str, Any] = handler(self)
        for name in ("masking", "unmasking"):
            if said.get(name) is None:
                said.pop(name, None)
        return said

    def reply(
        self, body: bytes, instruction_sha256: str, metrics: Mapping[str, float]
    ) -> RoundReply:
        """The header of this site's answer with this body."""
        return RoundReply(
            **{name: getattr(self, name) for name in _Header.model_fields if name != "body_sha256"},
            body_sha256=body_digest(body),
            instruction_sha256=instruction_sha256,
            metrics=dict(metrics),
        )


class RoundReply(_Header):
    """What a site sends back: the update of the shared parameters; nothing else in mode ``local``.

    ``train``: body = delta (site minus global) of every shared parameter. ``evaluate``,
    ``calibrate``, ``moments``: body = the sums of :mod:`shared_model.releases.statistics`, noised
    in every mode but ``none``. ``finalise``: empty body. Under a plan with secure aggregation the
    body of ``train`` is a masked vector, and ``keys``, ``shares`` and ``unmask`` have bodies of
    their own (:mod:`shared_model.secure_aggregation.messages`).
    """

    instruction_sha256: Sha256 = Field(description="digest of the instruction that this answers")
    metrics: dict[str, float] = Field(
        default_factory=dict, max_length=64, description="mode none only; empty otherwise"
    )


_H = TypeVar("_H", bound=AnyHeader)


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
