"""The hospital's own limits on training and release, which the coordinator cannot widen."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
)

from client.egress.release_hours import ReleaseHours
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan, PrivacyMode, Sha256

Shapes = Mapping[str, tuple[int, ...]]
KeyFingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}(-[0-9a-f]{4}){7}$")]


class SitePolicy(BaseModel):
    """What this hospital allows; every value has a safe default, every refusal names its limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modes: tuple[PrivacyMode, ...] = Field(
        default=("local",),
        description="privacy modes that plans may use; 'distributed' trusts other hospitals with "
        "their share of the noise, 'central' the coordinator with all of it, 'none' is for public "
        "or synthetic data only",
    )
    allowed_models: tuple[str, ...] | None = Field(
        default=None, description="models that plans may train; none: those of this installation"
    )
    allowed_plans: tuple[Sha256, ...] | None = Field(
        default=None, description="digests of the only plans; none: those that a person accepts"
    )
    coordinators: tuple[KeyFingerprint, ...] | None = Field(
        default=None,
        description="fingerprints of the only coordinator keys; none: the key that site.toml names",
    )
    max_epsilon: float = Field(
        default=10.0, gt=0, le=1000, description="cap over all plans and runs of this hospital"
    )
    max_epsilon_per_plan: float | None = Field(
        default=None, gt=0, le=1000, description="cap of one plan's budget; none: max_epsilon"
    )
    max_delta: float = Field(default=1e-5, gt=0, lt=1, description="largest delta of a plan")
    max_reply_bytes: int = Field(default=4 << 20, ge=1, description="bytes of one reply's arrays")
    max_shared_parameters: int = Field(
        default=50_000, ge=1, description="numbers that one reply may hold"
    )
    allow_metrics: bool = Field(
        default=False, description="metrics may leave in mode 'none'; in a private mode never"
    )
    allow_evaluation: bool = Field(
        default=False, description="counts on test patients may leave: with noise in private modes"
    )
    allow_calibration: bool = Field(
        default=False, description="sums for calibration may leave: with noise in private modes"
    )
    allow_moments: bool = Field(
        default=False,
        description="moments of embeddings may leave (layer B): with noise in private modes",
    )
    min_cell: int = Field(
        default=10,
        ge=1,
        description="mode 'none': nothing counted over fewer patients leaves; in private modes "
        "the noise protects every patient of a cell of any size",
    )
    release_hours: tuple[ReleaseHours, ...] = Field(
        default=(), max_length=64, description="windows in which data may leave; none: always"
    )
    max_releases_per_day: int | None = Field(
        default=None, ge=1, description="replies with data in any 24 hours; none: no limit"
    )
    max_bytes_per_day: int | None = Field(
        default=None, ge=1, description="bytes of data in any 24 hours; none: no limit"
    )
    reply_pace_s: float = Field(
        default=1.0,
        ge=0,
        le=3600,
        description="an answer leaves a multiple of so many seconds after its instruction came, so "
        "that its time tells less about the patients; 0: at once",
    )
    max_sent_archive_bytes: int = Field(
        default=1 << 30, ge=0, description="disk for copies of what left, for smrfed-site receipts"
    )

    # Where it was read, and the SHA-256 of what was there.
    _read: tuple[Path, str] | None = PrivateAttr(default=None)

    def __eq__(self, other: object) -> bool:
        """Whether the rules are the same, wherever they were read."""
        return isinstance(other, SitePolicy) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]

    @property
    def plan_epsilon_cap(self) -> float:
        """Largest budget of a plan: the tighter of the two caps."""
        return min(self.max_epsilon, self.max_epsilon_per_plan or self.max_epsilon)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a policy from TOML; raises SMR-E310 naming every offending field."""
        try:
            content = path.read_bytes()
            data: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
            policy = cls.model_validate(data)
            policy._read = path, hashlib.sha256(content).hexdigest()
            return policy
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

    def require_unchanged(self) -> None:
        """Raise SMR-E316 when the file that this was read from says something else by now.

        A process that goes on under what it read at its start must not release what the hospital
        has forbidden since. A policy that was not read from a file does not change.
        """
        if self._read is None:
            return
        path, known = self._read
        try:
            now = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            now = str(error)
        if now != known:
            raise SmrfedError(
                "SMR-E316",
                f"the site policy {path} has changed since the agent read it",
                expected=f"the file that the agent read at its start, SHA-256 {known[:16]}",
                found=now[:200],
                remedy="restart the agent, so that it goes by the policy as it is now; nothing "
                "leaves until then",
            )

    def admit_plan(self, plan: FederationPlan, shared_shapes: Shapes | None = None) -> None:
        """Return when the policy allows the plan; otherwise raise, naming the limit it breaks.

        Raises SMR-E362 (model or plan), SMR-E311 (privacy mode), SMR-E304 (the plan voids its own
        guarantee), SMR-E312 (epsilon), SMR-E313 (delta), SMR-E315 (the plan costs more than its own
        epsilon), SMR-E364 (evaluation, calibration or moments), and with ``shared_shapes`` SMR-E314
        (size). ``smrfed-site accept`` calls it without shapes, the agent with those of its model.
        """
        from client.egress.admission import admissions  # it needs this class

        for admission in admissions(self, plan, shared_shapes):
            if admission.error is not None:
                raise admission.error

    def admit_coordinator(self, fingerprint: str) -> None:
        """Raise SMR-E363 unless instructions of the key with this fingerprint are allowed."""
        if self.coordinators is not None and fingerprint not in self.coordinators:
            raise SmrfedError(
                "SMR-E363",
                "the coordinator's key is not one that this hospital's policy allows",
                expected=f"coordinators = {list(self.coordinators)}",
                found=fingerprint,
                remedy="compare the fingerprint with the coordinator by telephone, then correct "
                "coordinator_key in site.toml or coordinators in the policy",
            )

    def admit_size(self, shapes: Shapes, number_bytes: int = 4) -> None:
        """Raise SMR-E314 when arrays of these shapes would be more than a reply may hold.

        A number of a masked sum has 8 bytes.
        """
        from client.egress.admission import size_admission

        error = size_admission(self, shapes, number_bytes).error
        if error is not None:
            raise error
