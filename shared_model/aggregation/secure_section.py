"""The plan's section of secure aggregation: who must answer, who may collude, the fixed point."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

#: Most numbers in a secure sum.
MOST_NUMBERS = 1 << 24


class SecureAggregationSection(BaseModel):
    """Double masking of one integer sum a round (Bonawitz et al. 2017); docs/privacy.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    threshold: int = Field(
        ge=2, description="sites whose shares open a sum: more than (sites + colluding) / 2"
    )
    min_survivors: int = Field(
        ge=2, description="sites whose sums must be in a round; with fewer it is void"
    )
    colluding: int = Field(
        ge=0,
        description="sites that may collude with the coordinator: their shares of the noise are "
        "not counted on",
    )
    rounds_per_setup: int = Field(
        default=20, ge=1, le=1000, description="rounds whose keys are agreed at once"
    )
    fraction_bits: int = Field(
        default=40, ge=16, le=52, description="numbers are sent as integers times 2^-fraction_bits"
    )

    @property
    def honest_survivors(self) -> int:
        """The fewest sites of a round whose noise is certainly in the sum."""
        return self.min_survivors - self.colluding
