"""SMR-Net that also reads region volumes and clinical data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from shared_model.batch import Batch
from shared_model.plan import Sha256
from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.output import SMRNetOutput
from shared_model.smrnet.reasoner import Reasoner
from shared_model.smrnet.tokens import Tokens
from shared_model.volumes.reference import PACKAGED_SHA256

# K clinical numbers weigh as much as one region's voice: their evidence is not multiplied by the
# gain of the read-out.
_SMALL = 0.5


class SMRNetVolumesConfig(SMRNetConfig):
    """Options of SMR-Net, and which public constants the volumes are standardised with."""

    reference_sha256: Sha256 = Field(
        default=PACKAGED_SHA256, description="digest of the public reference of region volumes"
    )
    volume_nodes: bool = Field(
        default=True, description="volumes are features of the graph's nodes"
    )
    volume_evidence: bool = Field(
        default=True, description="late fusion: each region's volume speaks beside the graph"
    )


@dataclass(frozen=True)
class ScanWithVolumes(Batch):
    """B scans as a hospital brings them.

    Attributes:
        volume: ``(B, 1, D, H, W)`` on the model grid.
        region_volumes: ``(B, R)`` deviations of log(region / brain) from the public reference.
        clinical: ``(B, K)`` as the plan encodes them; K is 0 in mode ``imaging-only``.
    """

    volume: Tensor
    region_volumes: Tensor
    clinical: Tensor


@dataclass(frozen=True)
class VolumesTokens(Batch):
    """Those of SMR-Net, with region volumes ``(B, R)`` and clinical data ``(B, K)``."""

    regions: Tensor
    slices: Tensor
    region_volumes: Tensor
    clinical: Tensor


@dataclass(frozen=True)
class SMRNetVolumesOutput(SMRNetOutput):
    """As :class:`SMRNetOutput`; logits are ``bias + planes + sum_r importance_r evidence_r + sum_k
    clinical_evidence_k``, exactly.

    Attributes:
        clinical_evidence: ``(B, K, C)`` what each clinical number says for each class, in logits.
    """

    clinical_evidence: Tensor


class VolumesReasoner(Reasoner):
    """The reasoner with two more ways in, each with a parameter of its own.

    Early: a region's volume moves its node along one learnt direction, so that the graph sees
    pairs of shrunken neighbours. Late: the volume speaks beside the graph, with a weight for each
    region and class, weighed by the same importance, so that the decomposition stays exact. Age and
    sex shift the logits, and so the volume that is expected.
    """

    volume_direction: nn.Parameter | None
    volume_weights: nn.Parameter | None
    clinical_weights: nn.Parameter | None

    def __init__(
        self, config: SMRNetVolumesConfig, regions: int, clinical: int, *parts: Any
    ) -> None:
        super().__init__(config, *parts)
        nodes, classes = config.node_features, config.classes
        with torch.no_grad():
            direction = torch.randn(nodes) / nodes**0.5
        for name, value in (
            ("volume_direction", direction if config.volume_nodes else None),
            ("volume_weights", torch.zeros(regions, classes) if config.volume_evidence else None),
            ("clinical_weights", torch.zeros(classes, clinical) if clinical else None),
        ):
            self.register_parameter(name, None if value is None else nn.Parameter(value))

    def read(self, tokens: VolumesTokens) -> SMRNetVolumesOutput:
        """Prediction and explanations; parameters may have scans as a leading dimension."""
        z = tokens.region_volumes[..., None]
        early, late = self.volume_direction, self.volume_weights
        output = self(
            Tokens(tokens.regions, tokens.slices),
            None if early is None else z * early[..., None, :],
            None if late is None else z * late,
        )
        if self.clinical_weights is None:
            said = z.new_zeros(len(z), 0, output.logits.shape[1])
        else:
            said = _SMALL * (self.clinical_weights * tokens.clinical[:, None]).mT
        values = vars(output) | {"logits": output.logits + said.sum(1)}
        return SMRNetVolumesOutput(**values, clinical_evidence=said)


class SMRNetVolumes(SMRNet):
    """SMR-Net on scans, their region volumes, and clinical data.

    Parameters are named as in :class:`SMRNet`, so its public encoder fits; what is new begins with
    ``reasoner.volume_`` and ``reasoner.clinical_``.

    Args:
        config: options.
        labels, adjacency: as in :class:`SMRNet`.
        clinical: K; 0 where the plan has no clinical variables.
    """

    tokens = VolumesTokens  # type: ignore[assignment]

    def __init__(
        self, config: SMRNetVolumesConfig, labels: Tensor, adjacency: Tensor, clinical: int
    ) -> None:
        def make(config: SMRNetVolumesConfig, adjacency: Tensor, *parts: Any) -> VolumesReasoner:
            return VolumesReasoner(config, len(adjacency), clinical, adjacency, *parts)

        super().__init__(config, labels, adjacency, make)

    def tokenise(self, x: ScanWithVolumes) -> VolumesTokens:  # type: ignore[override]
        """Tokens of the scan; volumes and clinical data pass through."""
        seen = super().tokenise(x.volume)
        return VolumesTokens(seen.regions, seen.slices, x.region_volumes, x.clinical)

    def reason(self, tokens: VolumesTokens) -> SMRNetVolumesOutput:  # type: ignore[override]
        """Prediction and explanations."""
        assert isinstance(self.reasoner, VolumesReasoner)
        return self.reasoner.read(tokens)

    def forward(self, x: ScanWithVolumes) -> SMRNetVolumesOutput:  # type: ignore[override]
        """Scans to :class:`SMRNetVolumesOutput`."""
        return self.reason(self.tokenise(x))
