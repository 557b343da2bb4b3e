"""Parameter groups by name: what is public, what is federated, what never leaves the site."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared_model.errors import SmrfedError

Group = Literal["frozen", "shared", "site"]


class ParameterGroups(BaseModel):
    """Shell-style name patterns that put every parameter of a model in exactly one group.

    ``frozen`` is public and never sent back, ``shared`` is trained privately and federated,
    ``site`` never leaves the hospital. A parameter that matches several groups, or none, is an
    error: privacy and aggregation work by name, so nothing may be left to chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    frozen: tuple[str, ...] = Field(default=(), description="public parameters, never sent back")
    shared: tuple[str, ...] = Field(default=("*",), description="federated parameters")
    site: tuple[str, ...] = Field(default=(), description="parameters that never leave the site")

    def split(self, names: Iterable[str]) -> dict[Group, tuple[str, ...]]:
        """Sort parameter names into the three groups, keeping their order.

        ``site`` and ``frozen`` patterns are explicit and take a name out of a broader ``shared``
        pattern; a name that both of them claim, or that nobody claims, raises SMR-E103.
        """
        out: dict[Group, list[str]] = {"frozen": [], "shared": [], "site": []}
        for name in names:
            out[self.group_of(name)].append(name)
        return {group: tuple(members) for group, members in out.items()}

    def group_of(self, name: str) -> Group:
        """The group of one parameter name; raises SMR-E103 when it is not exactly one."""
        claims: list[Group] = []
        if any(fnmatchcase(name, pattern) for pattern in self.frozen):
            claims.append("frozen")
        if any(fnmatchcase(name, pattern) for pattern in self.site):
            claims.append("site")
        if not claims and any(fnmatchcase(name, pattern) for pattern in self.shared):
            claims.append("shared")
        if len(claims) != 1:
            raise SmrfedError(
                "SMR-E103",
                f"parameter {name!r} does not belong to exactly one parameter group",
                expected="one of frozen, shared, site",
                found=claims or "no pattern matches",
                remedy="extend the [groups] patterns of the plan so that they name it once",
            )
        return claims[0]
