"""How many must have been accepted before a round may count: sites, and their declared patients."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from shared_model.plan import FederationPlan


@dataclass(frozen=True)
class Quorum:
    """Both must be reached; ``declared`` gives the public number of patients of every site."""

    sites: int = 0
    patients: int = 0
    declared: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: FederationPlan) -> Quorum:
        """What the plan asks of every round of training; of a secure sum, its least survivors."""
        section, secure = plan.federation, plan.secure_aggregation
        declared = {site.name: site.declared_patients for site in section.sites}
        sites = section.min_sites if secure is None else secure.min_survivors
        return cls(sites, section.min_patients, declared)

    def met(self, accepted: Collection[str]) -> bool:
        """Whether these sites are enough."""
        return len(accepted) >= self.sites and self.patients_of(accepted) >= self.patients

    def patients_of(self, accepted: Collection[str]) -> int:
        """Declared patients of these sites together."""
        return sum(self.declared.get(site, 0) for site in accepted)

    def __str__(self) -> str:
        patients = f" with {self.patients} declared patients" if self.patients else ""
        return f"{self.sites} accepted site{'s' * (self.sites != 1)}{patients}"


#: For questions that nobody has to answer.
NO_QUORUM = Quorum()
