"""The plans that this hospital accepted, pinned by digest in ``state_dir/plans``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.agent.durable import write_durably
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Acceptance:
    """An accepted plan; ``accepted_at`` is ISO 8601 in UTC.

    ``outgoing`` are the names and shapes of what leaves per round, as they were shown when the plan
    was accepted; ``None`` when they could not be shown (no training stack installed).
    """

    plan: FederationPlan
    accepted_at: str
    outgoing: Shapes | None


class AcceptedPlans:
    """``folder/<digest>.json``, written once per plan; later only outgoing arrays are filled in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def accept(self, plan: FederationPlan, outgoing: Shapes | None) -> Acceptance:
        """Pin a plan that the policy admits; accepting it again changes nothing.

        Where the outgoing arrays could not be shown at acceptance, the first ones that are known
        are pinned. Raises SMR-E415 when they are others than those that were.
        """
        accepted_at = datetime.now(UTC).isoformat(timespec="microseconds")
        if plan.digest in self._digests():
            known = self.find(plan.digest)
            if known.outgoing is not None and outgoing is not None:
                _require_same(plan, known.outgoing, outgoing)
            if known.outgoing is not None or outgoing is None:
                return known
            accepted_at = known.accepted_at
        acceptance = Acceptance(plan, accepted_at, outgoing)
        content = {
            "accepted_at": acceptance.accepted_at,
            "outgoing": None if outgoing is None else {k: list(v) for k, v in outgoing.items()},
            "plan": plan.model_dump(mode="json"),
        }
        write_durably(self._folder / f"{plan.digest}.json", json.dumps(content, indent=1).encode())
        return acceptance

    def find(self, digest: str) -> Acceptance:
        """The accepted plan whose digest starts with ``digest``; raises SMR-E409 or SMR-E406."""
        matches = [known for known in self._digests() if known.startswith(digest)]
        if len(matches) != 1:
            raise _not_accepted(
                f"a plan whose digest starts with {digest}",
                [known[:12] for known in self._digests()],
            )
        return self._read(matches[0])

    def chosen(self, digest: str | None) -> Acceptance:
        """The plan whose digest starts so, or the newest; raises SMR-E409 or SMR-E406."""
        return self.newest() if digest is None else self.find(digest)

    def holds(self, digest: str) -> bool:
        """Whether the plan with exactly this digest was accepted."""
        return digest in self._digests()

    def newest(self) -> Acceptance:
        """The plan accepted last; raises SMR-E409 when there is none."""
        accepted = self.all()
        if not accepted:
            raise _not_accepted("an accepted plan", "none")
        return accepted[-1]

    def all(self) -> tuple[Acceptance, ...]:
        """Every accepted plan, oldest first."""
        read = (self._read(digest) for digest in self._digests())
        return tuple(sorted(read, key=lambda acceptance: acceptance.accepted_at))

    def _digests(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def _read(self, digest: str) -> Acceptance:
        path = self._folder / f"{digest}.json"
        try:
            content = json.loads(path.read_bytes())
            plan = FederationPlan.parse(content["plan"], source=str(path))
            shown = content["outgoing"]
            outgoing = None if shown is None else {k: tuple(v) for k, v in shown.items()}
            accepted_at = str(content["accepted_at"])
        except (OSError, ValueError, KeyError, TypeError, SmrfedError) as error:
            raise _changed(path, error) from None
        if plan.digest != digest:
            raise _changed(path, f"a plan with digest {plan.digest}")
        return Acceptance(plan, accepted_at, outgoing)


def _require_same(plan: FederationPlan, shown: Shapes, now: Shapes) -> None:
    if dict(shown) != dict(now):
        differing = sorted(set(shown.items()) ^ set(now.items()))
        raise SmrfedError(
            "SMR-E415",
            f"plan {plan.name!r} would send other arrays than those shown when it was accepted",
            expected="the names and shapes of the acceptance",
            found="; ".join(f"{name} {shape}" for name, shape in differing[:6]),
            remedy="the smrfed version differs from the one at acceptance: install that one again, "
            "or agree on a new plan",
        )


def _not_accepted(expected: str, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E409",
        "this site has not accepted such a plan",
        expected=expected,
        found=found,
        remedy="read the plan and accept it: smrfed-site accept PLAN --config site.toml",
    )


def _changed(path: Path, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E406",
        f"the accepted plan {path} was changed or damaged",
        expected="the plan whose digest names the file",
        found=found,
        remedy="restore the file from a backup, or remove it and accept the plan again",
    )
