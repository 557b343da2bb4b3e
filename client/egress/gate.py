"""The egress gate: the one place that lets arrays out of the hospital, or does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from client.egress.door import CLOSED, require_open
from client.egress.masked_schema import holds_integers, masked_problems
from client.egress.policy import Shapes, SitePolicy
from client.egress.receipts import Decision, Receipts
from shared_model.aggregation.update_bound import update_norm_bound
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, body_digest, encode_any
from shared_model.protocol.messages import MASK_KINDS, Kind, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, message_digest
from shared_model.releases.statistics import Statistics, norm_bound
from shared_model.secure_aggregation.messages import UnmaskOrder

#: Refusals of what a reply holds; the same work would meet them again.
OF_THE_CONTENT = ("SMR-E320", "SMR-E321", "SMR-E322", "SMR-E323", "SMR-E325")
# Replies that hold counts or sums about patients, and the policy field that lets each leave.
_STATISTICS = {
    "evaluate": "allow_evaluation",
    "calibrate": "allow_calibration",
    "moments": "allow_moments",
}

#: Arrays of a reply: float32, or the integers of the secure aggregation.
ReplyArrays = Mapping[str, npt.NDArray[Any]]


class EgressGate:
    """Allows exactly what plan and policy name, writes a receipt for every decision, fails closed.

    The gate is a schema allow-list (names, shapes, float32, finite, size, metrics), a sanity bound
    on the norm, and a door that is open at the policy's hours; it is the second line behind the DP
    mechanism and gives no privacy guarantee of its own. Masked integers have names, types and sizes
    of their own and no norm to look at; keys and shares of them hold nothing about patients and may
    leave at any hour. ``clock`` gives the time in UTC.
    """

    def __init__(
        self,
        policy: SitePolicy,
        receipts: Receipts,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._policy = policy
        self._receipts = receipts
        self._clock = clock

    def require_open(self, shapes: Shapes, number_bytes: int = 4) -> None:
        """Raise SMR-E360 or SMR-E361 when arrays of these shapes could not leave now.

        Asked before a patient is touched: what could not leave is not computed, nor charged. Raises
        SMR-E316 when the policy has changed.
        """
        self._policy.require_unchanged()
        if shapes:
            size = number_bytes * sum(math.prod(shape) for shape in shapes.values())
            require_open(self._policy, self._receipts.read(), size, self._clock())

    def release(
        self,
        header: RoundReply,
        arrays: ReplyArrays,
        plan: FederationPlan,
        expected_shapes: Shapes,
        *,
        epsilon_after: float | None = None,
        patients: int | None = None,
        order: UnmaskOrder | None = None,
    ) -> None:
        """Return when this reply may leave, once its receipt is on disk; raise otherwise.

        Args:
            header: the reply's header, with the digest of its body.
            arrays: the reply's arrays by name.
            plan: the accepted plan.
            expected_shapes: what this kind of reply holds by name; a ``finalise`` reply holds none.
                Of a masked vector, the shapes of the shared parameters that are flat in it.
            epsilon_after: what the ledger will have spent, for the receipt.
            patients: mode ``none``: over how many patients the reply's metrics or counts were
                taken; unknown counts as none.
            order: what an ``unmask`` reply answers.

        Raises SMR-E311 to E316, E304, E362 and E364 (policy), SMR-E320 (names or shapes), SMR-E321
        (dtype or not finite), SMR-E322 (header), SMR-E323 (metrics), SMR-E325 (norm), SMR-E327 (no
        receipt), SMR-E365 (too few patients). A sound reply that came after hours or beyond the
        day's limit is **held**: SMR-E360 or SMR-E361, and :meth:`hand_over` lets it out later.
        """
        try:
            self._check(header, arrays, plan, expected_shapes, patients, order)
            self._require_open_for(header, arrays)
        except SmrfedError as error:
            self._record(header, arrays, plan, epsilon_after, released=False, rule=error.code)
            raise
        except Exception:
            self._record(header, arrays, plan, epsilon_after, released=False, rule="exception")
            raise
        self._record(
            header, arrays, plan, epsilon_after, released=True, rule=f"{header.kind} schema"
        )

    def hand_over(self, reply: Sealed) -> None:
        """Return when a reply that was decided on before may leave, perhaps again.

        Raises SMR-E360 or SMR-E361 while the door is closed, SMR-E316 when the policy has changed,
        and SMR-E322 when no receipt of the reply says that it may leave. What was held gets its
        receipt here.
        """
        self._policy.require_unchanged()
        header = decode_header(RoundReply, reply)
        digest = reply.digest.hex()
        known = self._receipts.read()
        mine = [r.decision for r in known if r.decision.reply_sha256 == digest]
        if any(decision.released for decision in mine):
            # It left before and may leave again: only the hours count, not the day's amounts.
            if header.kind not in MASK_KINDS and (mine[-1].bytes or mine[-1].metrics):
                require_open(self._policy, (), 0, self._clock())
            return
        if not mine or mine[-1].rule not in CLOSED:
            raise _refused("SMR-E322", "a stored reply", "a receipt that releases it", header.kind)
        require_open(self._policy, known, mine[-1].bytes, self._clock())
        released = {"released": True, "rule": f"{header.kind} schema, held before"}
        self._receipts.append(mine[-1].model_copy(update=released))

    def _check(
        self,
        header: RoundReply,
        arrays: ReplyArrays,
        plan: FederationPlan,
        expected_shapes: Shapes,
        patients: int | None,
        order: UnmaskOrder | None,
    ) -> None:
        self._policy.require_unchanged()
        self._policy.admit_plan(plan)
        _check_kind(header, self._policy)
        expected = {} if header.kind == "finalise" else expected_shapes
        integers = holds_integers(header.kind, plan)
        if integers:
            _check_integers(header, arrays, plan, expected, order)
        else:
            _check_schema(arrays, expected)
        if header.kind not in MASK_KINDS:
            self._policy.admit_size(expected, 8 if integers else 4)
        _check_header(header, arrays, plan, self._policy.max_reply_bytes)
        if header.metrics and not (plan.privacy.mode == "none" and self._policy.allow_metrics):
            raise _refused(
                "SMR-E323", "metrics of patients", "none in this mode and policy",
                sorted(header.metrics),
            )  # fmt: skip
        if not all(math.isfinite(value) for value in header.metrics.values()):
            raise _refused("SMR-E323", "a metric that is not finite", "numbers", header.metrics)
        if plan.privacy.mode == "none":
            self._check_cell(header, patients or 0)
        if integers or header.kind == "finalise":
            return  # whatever is under a mask is uniform
        if header.kind == "train":
            _check_norm(header, arrays, plan)
        else:
            _check_sums(header, arrays, plan, _statistics(header.kind))

    def _check_cell(self, header: RoundReply, patients: int) -> None:
        counted = header.kind in _STATISTICS or bool(header.metrics)
        if counted and patients < self._policy.min_cell:
            raise _refused(
                "SMR-E365", "numbers counted over so few patients",
                f"min_cell = {self._policy.min_cell}", patients,
            )  # fmt: skip

    def _require_open_for(self, header: RoundReply, arrays: ReplyArrays) -> None:
        # An empty reply says that a site is done, nothing else: it may leave at any hour.
        if header.kind not in MASK_KINDS and (arrays or header.metrics):
            size = sum(value.nbytes for value in arrays.values())
            require_open(self._policy, self._receipts.read(), size, self._clock())

    def _record(
        self,
        header: RoundReply,
        arrays: ReplyArrays,
        plan: FederationPlan,
        epsilon_after: float | None,
        *,
        released: bool,
        rule: str,
    ) -> None:
        self._receipts.append(
            Decision(
                released=released,
                rule=rule,
                run_id=header.run_id,
                round=header.round,
                kind=header.kind,
                mode=plan.privacy.mode,
                plan_digest=plan.digest,
                arrays=len(arrays),
                numbers=sum(value.size for value in arrays.values()),
                bytes=sum(value.nbytes for value in arrays.values()),
                metrics=tuple(sorted(header.metrics)),
                body_sha256=header.body_sha256,
                reply_sha256=_reply_digest(header, arrays),
                epsilon_after=epsilon_after,
            )
        )


def _check_norm(header: RoundReply, arrays: Arrays, plan: FederationPlan) -> None:
    numbers = sum(value.size for value in arrays.values())
    bound = update_norm_bound(plan, header.site, numbers, header.round)
    norm = math.sqrt(sum(float(np.square(v, dtype=np.float64).sum()) for v in arrays.values()))
    if norm > bound:
        raise _refused("SMR-E325", "an update of this norm", f"at most {bound:.4g}", norm)


def _check_kind(header: RoundReply, policy: SitePolicy) -> None:
    field = _STATISTICS.get(header.kind)
    if field is not None and not getattr(policy, field):
        raise _refused("SMR-E364", f"a reply of kind {header.kind}", f"{field} = true", "false")


def _reply_digest(header: RoundReply, arrays: ReplyArrays) -> str:
    try:
        return message_digest(header.canonical_json, encode_any(arrays)).hex()
    except (SmrfedError, ValueError):
        # Arrays that cannot be sent, or a header without canonical form, have no digest.
        return "0" * 64


def _check_sums(header: RoundReply, arrays: Arrays, plan: FederationPlan, kind: Statistics) -> None:
    bound = norm_bound(plan, header.site, kind)
    norm = math.sqrt(sum(float(np.square(v, dtype=np.float64).sum()) for v in arrays.values()))
    if norm > bound:
        raise _refused("SMR-E325", "sums over patients of this norm", f"at most {bound:.4g}", norm)


def _statistics(kind: Kind) -> Statistics:
    for known in ("evaluate", "calibrate", "moments"):
        if kind == known:
            return known
    raise ValueError(f"no sums over patients: {kind}")


def _check_integers(
    header: RoundReply,
    arrays: ReplyArrays,
    plan: FederationPlan,
    shared: Shapes,
    order: UnmaskOrder | None,
) -> None:
    numbers = sum(math.prod(shape) for shape in shared.values())
    for problem in masked_problems(header, header.kind, arrays, plan, numbers, order):
        raise _refused("SMR-E320", *problem)


def _check_schema(arrays: ReplyArrays, expected: Shapes) -> None:
    if set(arrays) != set(expected):
        difference = sorted(set(arrays) ^ set(expected))
        raise _refused(
            "SMR-E320", "arrays that are not the shared parameters", f"{len(expected)} names",
            f"missing or additional: {difference[:5]}",
        )  # fmt: skip
    for name, value in arrays.items():
        if value.dtype != np.float32:
            raise _refused("SMR-E321", f"array {name!r}", "float32", value.dtype)
        if value.shape != tuple(expected[name]):
            raise _refused("SMR-E320", f"array {name!r}", tuple(expected[name]), value.shape)
        if not np.isfinite(value).all():
            raise _refused("SMR-E321", f"array {name!r}", "finite numbers", "NaN or infinity")


def _check_header(
    header: RoundReply, arrays: ReplyArrays, plan: FederationPlan, limit: int
) -> None:
    plan.site(header.site)
    if header.plan_digest != plan.digest:
        raise _refused("SMR-E322", "a reply under another plan", plan.digest, header.plan_digest)
    body = encode_any(arrays)
    if header.body_sha256 != body_digest(body):
        raise _refused(
            "SMR-E322", "a header of another body", body_digest(body), header.body_sha256
        )
    if len(body) > limit:
        raise _refused("SMR-E322", "a body of this size", f"max_reply_bytes = {limit}", len(body))


def _refused(code: str, what: str, expected: object, found: object) -> SmrfedError:
    return SmrfedError(
        code,
        f"the egress gate refused {what}",
        expected=expected,
        found=found,
        remedy="nothing left the hospital; compare the plan, the model and the policy, and "
        "read the refusal with 'smrfed-site receipts'",
    )
