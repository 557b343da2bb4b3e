"""What a reply must satisfy, by name, before a single number of it is used.

Two stages, because they mean different things. A message that is not this site's answer to this
instruction (:func:`authenticate`) may come from anyone on the way, so the site is asked again. An
authentic answer with unusable content (:func:`check_update`) is the site's own word: asked again it
would give the same bytes, so the site is set aside for the round.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from server.aggregation.fixed_point import Shapes, chunks, require_range, require_shapes
from shared_model.aggregation.update_bound import update_norm_bound
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.protocol.arrays import decode_arrays, largest_body
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed

_METRIC_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


@dataclass(frozen=True)
class Question:
    """The instruction that a reply must answer, and who must have signed the answer."""

    instruction: RoundInstruction
    sealed: Sealed
    key: Ed25519PublicKey

    @property
    def site(self) -> str:
        """The site that is asked."""
        return self.instruction.site


def authenticate(reply: Sealed, question: Question) -> RoundReply:
    """The header of a reply that is this site's answer to this instruction.

    Raises SMR-E113 (not signed by the site), SMR-E116 or SMR-E117 (header unreadable, body
    exchanged), SMR-E512 (another site's name), SMR-E513 (another run, plan, round or instruction).
    """
    reply.verify(question.key, question.site)
    header = decode_header(RoundReply, reply)
    asked = question.instruction
    if header.site != asked.site:
        raise SmrfedError(
            "SMR-E512",
            f"the reply signed by {asked.site!r} names another site",
            expected=asked.site,
            found=header.site,
            remedy="compare the site's name in its configuration with the plan",
        )
    for field, expected, found in (
        ("run", asked.run_id, header.run_id),
        ("plan", asked.plan_digest, header.plan_digest),
        ("kind", asked.kind, header.kind),
        ("round", asked.round, header.round),
        ("instruction", question.sealed.digest.hex(), header.instruction_sha256),
    ):
        if found != expected:
            raise SmrfedError(
                "SMR-E513",
                f"the reply of {asked.site!r} answers another {field}",
                expected=expected,
                found=found,
                remedy="a late or replayed message is not used; the site is asked again",
            )
    return header


def check_metrics(header: RoundReply, mode: PrivacyMode) -> dict[str, float]:
    """The metrics of a reply; raises SMR-E514 when the plan's privacy mode allows none.

    Also when one is not a finite number under a plain name: they go into the history, a JSON file.
    """
    if mode != "none" and header.metrics:
        raise SmrfedError(
            "SMR-E514",
            f"the reply of {header.site!r} carries metrics in privacy mode {mode!r}",
            expected="no metrics: they are not covered by the privacy guarantee",
            found=sorted(header.metrics),
            remedy="tell the site: its agent released un-noised values; it must update smrfed",
        )
    strange = [
        name
        for name, value in header.metrics.items()
        if not (math.isfinite(value) and _METRIC_NAME.fullmatch(name))
    ]
    if strange:
        raise SmrfedError(
            "SMR-E514",
            f"the reply of {header.site!r} carries metrics that cannot be recorded",
            expected="finite values; names of up to 64 letters, digits and _ . : / -",
            found=strange[:5],
            remedy="check that the site runs the same smrfed version",
        )
    return dict(header.metrics)


def check_update(
    body: bytes, shapes: Shapes, norm_bound: float | None
) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays of a reply: exactly these names and shapes, float32, finite, in range, bounded.

    Raises SMR-E115 (cannot be decoded, or not float32), SMR-E515 (names), SMR-E516 (shapes, or more
    bytes than they take), SMR-E517 (NaN or infinity), SMR-E510 (range of the exact sum), SMR-E518
    (norm).
    """
    update = expected_arrays(body, shapes)
    squares = 0.0
    for name, values in update.items():
        for piece in chunks(values):
            bad = piece.size - int(np.count_nonzero(np.isfinite(piece)))
            if bad:
                raise SmrfedError(
                    "SMR-E517",
                    f"the update of parameter {name!r} is not finite",
                    expected="finite float32 values",
                    found=f"{bad} of {piece.size} values are NaN or infinite",
                    remedy="the site's training has diverged: look at its learning rate and data",
                )
            wide = piece.astype(np.float64)
            squares += float(np.dot(wide, wide))
        require_range(name, values)
    norm = math.sqrt(squares)
    if norm_bound is not None and norm > norm_bound:
        raise SmrfedError(
            "SMR-E518",
            "the update is longer than the plan's bound",
            expected=f"L2 norm up to {norm_bound:g}",
            found=f"{norm:g}",
            remedy="look at the site's training; raise the bound only if all sites exceed it",
        )
    return update


class LongestUpdate:
    """The bound of :func:`shared_model.aggregation.update_bound.update_norm_bound`, enforced here.

    An honest site's gate refuses a longer update itself, so what exceeds it comes from no honest
    site. There is no such bound in mode ``none`` nor with weight decay: nothing public limits an
    update there but the plan's ``norm_bound``.
    """

    def __init__(self, plan: FederationPlan, shapes: Shapes, round_number: int) -> None:
        self._plan = plan
        self._numbers = sum(math.prod(shape) for shape in shapes.values())
        self._round = round_number

    def require(self, site: str, update: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Raise SMR-E522 when no honest site could have sent this."""
        bound = update_norm_bound(self._plan, site, self._numbers, self._round)
        if math.isinf(bound):
            return
        # In pieces: a copy in float64 would take two models more.
        wide = (piece.astype(np.float64) for v in update.values() for piece in chunks(v))
        norm = math.sqrt(sum(float(np.dot(piece, piece)) for piece in wide))
        if norm > bound:
            raise SmrfedError(
                "SMR-E522",
                f"the update of {site!r} is longer than clipping and noise can make it",
                expected=f"L2 norm up to {bound:.4g}",
                found=f"{norm:.4g}",
                remedy="the site's own gate would have refused it: ask the site which smrfed "
                "version answered, and whether its machine was tampered with",
            )


def expected_arrays(body: bytes, shapes: Shapes) -> dict[str, npt.NDArray[np.float32]]:
    """Exactly these names and shapes, float32; raises SMR-E115, SMR-E515 and SMR-E516.

    Memory is bounded by the plan, not by the sender: a body that is too large is not decoded.
    """
    limit = largest_body(shapes)
    if len(body) > limit:
        raise SmrfedError(
            "SMR-E516",
            "a reply is larger than its arrays can be",
            expected=f"at most {limit} bytes",
            found=f"{len(body)} bytes",
            remedy="check that site and coordinator run the same smrfed version",
        )
    arrays = decode_arrays(body)
    require_shapes(arrays, shapes)
    return arrays
