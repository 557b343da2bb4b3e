"""A hospital that comes to a run after its plan was agreed: the addendum, and the extended plan.

The plan of the run stays as it is, and so do its digest and what the hospitals accepted. The new
hospital accepts a plan of its own, the run's plan with the new names appended, and its instructions
carry that plan's digest. What a hospital computes, spends and sends depends on its own entry of the
plan only; plans for which that is not so take no addition (:func:`require_addable`).
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan, Sha256, SiteEntry
from shared_model.protocol.messages import RunId

_DOMAIN = b"smrfed-addendum-v1\0"


class Addendum(BaseModel):
    """``sites``: all that were added to the run, in their order; the last one is the new one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    run_id: RunId
    base_digest: Sha256 = Field(description="digest of the run's plan")
    sites: tuple[SiteEntry, ...] = Field(min_length=1, max_length=1000)
    digest: Sha256 = Field(description="digest of the extended plan, which the new site accepts")
    signature: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{128})?$")] = ""

    @classmethod
    def of(
        cls, run_id: str, plan: FederationPlan, sites: tuple[SiteEntry, ...], key: Ed25519PrivateKey
    ) -> Addendum:
        """The signed addendum that adds the last of ``sites``; raises SMR-E594 and SMR-E102."""
        require_addable(plan)
        made = cls(
            run_id=run_id,
            base_digest=plan.digest,
            sites=sites,
            digest=extended_plan(plan, sites).digest,
        )
        return made.model_copy(update={"signature": key.sign(made._content).hex()})

    @property
    def site(self) -> SiteEntry:
        """The new hospital."""
        return self.sites[-1]

    def plan(self, base: FederationPlan, key: Ed25519PublicKey | None = None) -> FederationPlan:
        """The extended plan; with ``key`` only if that key signed the addendum.

        Raises SMR-E594 when the addendum is of another plan or key, or the plan takes no addition.
        """
        require_addable(base)
        extended = extended_plan(base, self.sites)
        problem = None
        if base.digest != self.base_digest:
            problem = f"an addendum to the plan with digest {self.base_digest}"
        elif extended.digest != self.digest:
            problem = f"an addendum that promises a plan with digest {self.digest}"
        elif key is not None and not self._signed_by(key):
            problem = "a signature that is not the coordinator's"
        if problem is not None:
            raise _refused(
                f"the addendum for {self.site.name!r} does not belong to plan {base.name!r}",
                f"plan {base.digest}, extended {extended.digest}",
                problem,
                "ask the coordinator for a new invitation",
            )
        return extended

    def _signed_by(self, key: Ed25519PublicKey) -> bool:
        try:
            key.verify(bytes.fromhex(self.signature), self._content)
        except InvalidSignature:
            return False
        return True

    @property
    def _content(self) -> bytes:
        # A field that nobody set is left out: what an earlier version signed stays valid.
        fields = self.model_dump(mode="json", exclude={"signature"}, exclude_none=True)
        return _DOMAIN + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def extended_plan(plan: FederationPlan, sites: tuple[SiteEntry, ...]) -> FederationPlan:
    """The plan with the sites appended; raises SMR-E102, for example when a name repeats."""
    data = plan.model_dump(mode="json", exclude_defaults=True)
    data["federation"]["sites"] = [
        site.model_dump(mode="json", exclude_none=True) for site in (*plan.federation.sites, *sites)
    ]
    return FederationPlan.parse(data, source=f"of {sites[-1].name!r}" if sites else "plan")


def require_addable(plan: FederationPlan) -> None:
    """Raise SMR-E594 where another hospital would notice that one was added.

    It would where instructions carry something by hospital (control variates, moments), because the
    others refuse names that their plan does not have; and in MR-MTL, where the bound on a
    hospital's update follows from the sizes of all of them. The masks and thresholds of a secure
    sum rest on every hospital's key, which the others accepted with the plan.
    """
    reasons = []
    if plan.aggregation.control_variates:
        reasons.append("aggregation.control_variates sends every site something about each other")
    if plan.aggregation.multi_task_lambda is not None:
        reasons.append("aggregation.multi_task_lambda bounds a site's updates by all sites' sizes")
    if plan.privacy.summed:
        reasons.append("the masks and thresholds of a secure sum are agreed among all sites")
    if plan.adaptation.site_moments != "off":
        reasons.append("adaptation.site_moments sends every site the moments of each other")
    if reasons:
        raise _refused(
            f"no hospital can be added to a running run of plan {plan.name!r}",
            "a plan in which no site's computation depends on who else takes part",
            "; ".join(reasons),
            "agree on a new plan that names the new hospital, and start a new run from the "
            "newest parameters of this one",
        )


def _refused(what: str, expected: str, found: str, remedy: str) -> SmrfedError:
    return SmrfedError("SMR-E594", what, expected=expected, found=found, remedy=remedy)
