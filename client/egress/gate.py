"""The egress gate: the one place that lets arrays out of the hospital, or does not."""

from __future__ import annotations

import math

import numpy as np

from client.egress.policy import Shapes, SitePolicy
from client.egress.receipts import Decision, Receipts
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, body_digest, encode_arrays
from shared_model.protocol.messages import RoundReply

# The norm of a P-dimensional standard normal exceeds sqrt(P) + 8 with probability below exp(-32).
_NORMAL_TAIL = 8.0
# A site may hold more patients than it declared; beyond twice as many, the declaration is wrong.
_DECLARED_MARGIN = 2.0


class EgressGate:
    """Allows exactly what plan and policy name, writes a receipt for every decision, fails closed.

    The gate is a schema allow-list (names, shapes, float32, finite, size, metrics) and a sanity
    bound on the norm; it is the second line behind the DP mechanism and gives no privacy guarantee
    of its own.
    """

    def __init__(self, policy: SitePolicy, receipts: Receipts) -> None:
        self._policy = policy
        self._receipts = receipts

    def release(
        self,
        header: RoundReply,
        arrays: Arrays,
        plan: FederationPlan,
        expected_shapes: Shapes,
        *,
        epsilon_after: float | None = None,
    ) -> None:
        """Return when this reply may leave, once its receipt is on disk; raise otherwise.

        Args:
            header: the reply's header, with the digest of its body.
            arrays: the reply's arrays by name.
            plan: the accepted plan.
            expected_shapes: the shared parameters by name; a ``finalise`` reply holds none.
            epsilon_after: what the ledger will have spent, for the receipt.

        Raises SMR-E311 to E315 and E304 (policy), SMR-E320 (names or shapes), SMR-E321 (dtype or
        not finite), SMR-E322 (header), SMR-E323 (metrics), SMR-E325 (norm), SMR-E327 (no receipt).
        """
        try:
            self._check(header, arrays, plan, expected_shapes)
        except SmrfedError as error:
            self._record(header, arrays, plan, epsilon_after, released=False, rule=error.code)
            raise
        except Exception:
            self._record(header, arrays, plan, epsilon_after, released=False, rule="exception")
            raise
        self._record(
            header, arrays, plan, epsilon_after, released=True, rule=f"{header.kind} schema"
        )

    def _check(
        self, header: RoundReply, arrays: Arrays, plan: FederationPlan, expected_shapes: Shapes
    ) -> None:
        self._policy.admit_plan(plan)
        expected = expected_shapes if header.kind == "train" else {}
        _check_schema(arrays, expected)
        self._policy.admit_size(expected)
        _check_header(header, arrays, plan, self._policy.max_reply_bytes)
        if header.metrics and not (plan.privacy.mode == "none" and self._policy.allow_metrics):
            raise _refused(
                "SMR-E323", "metrics of patients", "none in this mode and policy",
                sorted(header.metrics),
            )  # fmt: skip
        if not all(math.isfinite(value) for value in header.metrics.values()):
            raise _refused("SMR-E323", "a metric that is not finite", "numbers", header.metrics)
        bound = update_norm_bound(plan, header.site, sum(v.size for v in arrays.values()))
        norm = math.sqrt(sum(float(np.square(v, dtype=np.float64).sum()) for v in arrays.values()))
        if norm > bound:
            raise _refused("SMR-E325", "an update of this norm", f"at most {bound:.4g}", norm)

    def _record(
        self,
        header: RoundReply,
        arrays: Arrays,
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
                epsilon_after=epsilon_after,
            )
        )


def update_norm_bound(plan: FederationPlan, site: str, numbers: int) -> float:
    """A bound on the L2 norm of an honest site's update of ``numbers`` parameters.

    In mode ``local`` each step moves the parameters by at most
    ``lr * C * (2 n + sigma * (sqrt(P) + 8)) / (q * n)`` for a site with up to twice its ``n``
    declared patients: the first term always holds, the noise term up to a probability of exp(-32)
    per step. It depends on public values only. There is no bound (``inf``) without clipping, and
    none with weight decay, whose term grows with the parameters.
    """
    if plan.privacy.mode == "none" or plan.training.weight_decay > 0:
        return math.inf
    privacy, training = plan.privacy, plan.training
    declared = plan.site(site).declared_patients
    noise = privacy.noise_multiplier * (math.sqrt(numbers) + _NORMAL_TAIL)
    step = privacy.clipping_norm * (_DECLARED_MARGIN * declared + noise)
    step /= training.sampling_rate * declared
    return training.local_steps * training.learning_rate * step


def _check_schema(arrays: Arrays, expected: Shapes) -> None:
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


def _check_header(header: RoundReply, arrays: Arrays, plan: FederationPlan, limit: int) -> None:
    plan.site(header.site)
    if header.plan_digest != plan.digest:
        raise _refused("SMR-E322", "a reply under another plan", plan.digest, header.plan_digest)
    body = encode_arrays(arrays)
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
