"""Options of SMR-Net, as they stand in a federation plan."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SMRNetConfig(BaseModel):
    """Everything that fixes the parameter names and shapes, apart from the atlas and the grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int = Field(default=3, ge=2, description="number of logits")
    site_norm: Literal["off", "shared", "residual", "local"] = Field(
        default="residual", description="layer A; see shared_model.layers.site_norm"
    )
    width: int = Field(
        default=16,
        ge=2,
        multiple_of=2,
        description="channels: width/2 in the stem, 2w, 4w, 8w after",
    )
    token_features: int | None = Field(
        default=None, ge=2, description="features F of a token; none: twice the width"
    )
    normative_features: int | None = Field(
        default=None,
        ge=1,
        description="features K of a token after the public normative read-out; none: the F token "
        "features, standardised",
    )
    stem_stride: Literal[1, 2] = Field(
        default=1, description="2 for 1 mm input: the cost of 2 mm, with 1 mm texture in the stem"
    )
    weight_standardisation: bool = Field(
        default=False,
        description="centre and scale every filter of the encoder before use (De et al. 2022)",
    )
    graph_features: int | None = Field(
        default=None,
        ge=2,
        description="features of a graph node; none: K with a normative read-out, else half of F",
    )
    graph_blocks: int = Field(
        default=2, ge=0, le=8, description="graph convolutions; 0: every region for itself"
    )
    learned_edge_rank: int = Field(
        default=0, ge=0, le=32, description="rank of the learnt edges; 0: anatomical edges only"
    )
    fusion: Literal["adaptive", "mean", "finest"] = Field(
        default="adaptive",
        description="of the scales: each token chooses its mixture; equal weights; or the finest "
        "scale alone",
    )
    slice_attention: bool = Field(
        default=True, description="false: every slice counts with the brain in it"
    )
    attention_features: int = Field(
        default=8, ge=1, description="hidden width of the gated attentions"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="on node and plane embeddings, in training"
    )

    embedding_scale: bool = Field(
        default=False,
        description="layer A can scale embeddings as well as shift them; as site_moments 'affine' "
        "needs it",
    )

    @model_validator(mode="after")
    def _nothing_trains_in_vain(self) -> SMRNetConfig:
        # A parameter without a gradient would be pure noise in a private update.
        if self.learned_edge_rank and not self.graph_blocks:
            raise ValueError("learned_edge_rank needs graph_blocks > 0: nothing reads the edges")
        return self

    @property
    def features(self) -> int:
        """Token features F."""
        return self.token_features or 2 * self.width

    @property
    def reasoner_features(self) -> int:
        """Features of the tokens that the reasoner sees: K, or F without a normative read-out."""
        return self.normative_features or self.features

    @property
    def node_features(self) -> int:
        """Graph node features G."""
        default = self.normative_features or self.features // 2
        return self.graph_features or max(2, default)


class PublishedConfig(BaseModel):
    """Options of the network as published; the defaults give its 12,330,628 parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int = Field(default=3, ge=2, description="number of logits")
    site_norm: Literal["off", "shared", "residual", "local"] = Field(
        default="shared", description="layer A; see shared_model.layers.site_norm"
    )
    # Below 16 the eight groups hold one channel each, and the published biases have no gradient.
    width: int = Field(default=64, ge=16, multiple_of=8, description="channels of the first block")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="before the last layer")
