"""The hospital's own limits on training and release, which the coordinator cannot widen."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from client.privacy.composition import plan_use, refuse_unsound
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.privacy.accounting import epsilon

Shapes = Mapping[str, tuple[int, ...]]


class SitePolicy(BaseModel):
    """What this hospital allows; every value has a safe default, every refusal names its limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modes: tuple[PrivacyMode, ...] = Field(
        default=("local",), description="privacy modes; 'none' is for public or synthetic data only"
    )
    max_epsilon: float = Field(
        default=10.0, gt=0, le=1000, description="cap over all plans and runs of this hospital"
    )
    max_delta: float = Field(default=1e-5, gt=0, lt=1, description="largest delta of a plan")
    max_reply_bytes: int = Field(default=4 << 20, ge=1, description="bytes of one reply's arrays")
    max_shared_parameters: int = Field(
        default=50_000, ge=1, description="numbers that one reply may hold"
    )
    allow_metrics: bool = Field(
        default=False, description="metrics may leave in mode 'none'; in mode 'local' never"
    )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a policy from TOML; raises SMR-E310 naming every offending field."""
        try:
            data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls.model_validate(data)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            found = str(error)
        except ValidationError as error:
            found = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'policy'}: {item['msg']}"
                for item in error.errors()
            )
        raise SmrfedError(
            "SMR-E310",
            f"the site policy {path} is not valid, so nothing may leave",
            expected=sorted(cls.model_fields),
            found=found,
            remedy="correct the file; docs/privacy.md lists every field",
        )

    def admit_plan(self, plan: FederationPlan, shared_shapes: Shapes | None = None) -> None:
        """Return when the policy allows the plan; otherwise raise, naming the limit it breaks.

        Raises SMR-E304 (the plan voids its own guarantee), SMR-E311 (privacy mode), SMR-E312
        (epsilon), SMR-E313 (delta) and SMR-E315 (the plan's noise exceeds its own epsilon), and
        with ``shared_shapes`` SMR-E314 (size). ``smrfed-site accept`` calls it without shapes, the
        agent with those of the model that it built.
        """
        if plan.privacy.mode not in self.modes:
            raise _beyond(
                "SMR-E311", "the privacy mode", f"modes {list(self.modes)}", plan.privacy.mode
            )
        refuse_unsound(plan)
        if plan.privacy.mode != "none":
            self._admit_budget(plan)
        if shared_shapes is not None:
            self.admit_size(shared_shapes)

    def admit_size(self, shapes: Shapes) -> None:
        """Raise SMR-E314 when arrays of these shapes would be more than a reply may hold."""
        numbers = sum(math.prod(shape) for shape in shapes.values())
        if numbers > self.max_shared_parameters:
            limit = f"max_shared_parameters = {self.max_shared_parameters}"
            raise _beyond("SMR-E314", "the number of shared parameters", limit, numbers)
        if 4 * numbers > self.max_reply_bytes:
            limit = f"max_reply_bytes = {self.max_reply_bytes}"
            raise _beyond("SMR-E314", "the size of a reply", limit, f"{4 * numbers} bytes")

    def _admit_budget(self, plan: FederationPlan) -> None:
        privacy = plan.privacy
        if privacy.epsilon > self.max_epsilon:
            raise _beyond(
                "SMR-E312", "epsilon", f"max_epsilon = {self.max_epsilon}", privacy.epsilon
            )
        if privacy.delta > self.max_delta:
            raise _beyond("SMR-E313", "delta", f"max_delta = {self.max_delta}", privacy.delta)
        needed = epsilon([plan_use(plan)], privacy.delta)
        if needed > privacy.epsilon:
            raise SmrfedError(
                "SMR-E315",
                f"the {plan.total_steps} steps of plan {plan.name!r} cost more than its own budget",
                expected=f"epsilon <= {privacy.epsilon} at delta {privacy.delta:g}",
                found=f"{needed:.6g} at noise multiplier {privacy.noise_multiplier}",
                remedy="ask the coordinator for more noise, fewer steps or a lower sampling rate "
                "(shared_model.privacy.accounting.calibrate_noise gives the multiplier)",
            )


def _beyond(code: str, what: str, limit: str, found: object) -> SmrfedError:
    return SmrfedError(
        code,
        f"{what} is beyond what this hospital's policy allows",
        expected=limit,
        found=found,
        remedy="decline the plan, or let the data protection officer change the policy file",
    )
