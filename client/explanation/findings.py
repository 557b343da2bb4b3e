"""Everything that is said about one scan, before it is written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from client.explanation.certainty import Certainty, certainty
from client.explanation.public_brain import public_brain
from client.explanation.scan_choice import ChosenScan
from client.explanation.volumes import ScanVolumes, scan_volumes
from client.training.site_model import SiteModel
from shared_model.atlas.atlas import Atlas
from shared_model.errors import SmrfedError
from shared_model.explanation.methods import METHODS, methods_for
from shared_model.explanation.region_table import RegionRow, region_table
from shared_model.explanation.relevance import Case, Floats, Relevance
from shared_model.inputs import input_fields
from shared_model.smrnet.output import SMRNetOutput

_EDGES = 12


@dataclass(frozen=True)
class Edge:
    """A connection of the region graph: its weight, and that times both regions' importance."""

    first: str
    second: str
    weight: float
    strength: float


@dataclass(frozen=True, eq=False)
class Findings:
    """What drove the output for one scan.

    Attributes:
        labels: class names.
        target: class that is explained, an index.
        relevance: one map per method, the default first.
        regions: the default map's table.
        certainty: the prediction.
        volumes: of the regions.
        slice_attention: per plane ``(L,)``, for SMR-Net.
        edges: the strongest of the region graph, for SMR-Net.
        left_out: methods that this model does not allow, with why.
    """

    labels: tuple[str, ...]
    target: int
    relevance: tuple[Relevance, ...]
    regions: tuple[RegionRow, ...]
    certainty: Certainty
    volumes: ScanVolumes
    slice_attention: dict[str, Floats]
    edges: tuple[Edge, ...]
    left_out: tuple[str, ...]

    def drove(self, most: int) -> tuple[str, ...]:
        """At most so many regions that the default map names, the first first; none: an even map.

        Where a map is empty, or has the same value everywhere, the table's order says nothing.
        """
        least = min(row.mean for row in self.regions)
        return tuple(row.name for row in self.regions[:most] if row.mean > max(0.0, least))


def require_explainable(model: SiteModel) -> None:
    """Raise SMR-E482 for another task than classification, SMR-E483 for a model without images."""
    if model.entry.task != "classification":
        raise SmrfedError(
            "SMR-E482",
            f"model {model.plan.model.name!r} is not a classifier",
            expected="a model that names a class for the whole scan",
            found=model.entry.task,
            remedy="look at what it marks: segmentation and detection show their findings "
            "themselves",
        )
    asked = input_fields(model.entry.batch)
    if "volume" not in asked:
        raise SmrfedError(
            "SMR-E483",
            f"model {model.plan.model.name!r} looks at no image",
            expected="a model that asks for the volume",
            found=f"it asks for {', '.join(asked)}",
            remedy="docs/models.md says how this model explains itself",
        )


def explain_scan(
    model: SiteModel,
    atlas: Atlas,
    scan: ChosenScan,
    target: int | None,
    progress: Callable[[str], None],
) -> Findings:
    """All methods that the model allows; occlusion, one pass per region, takes the longest.

    ``target`` is the class to explain; none: the one predicted. Raises SMR-E482 and SMR-E483.
    """
    require_explainable(model)
    model.model.eval()
    progress("prediction")
    sure = certainty(model, scan.inputs)
    chosen = int(np.argmax(sure.probabilities)) if target is None else target
    case = Case(model.model, scan.inputs, chosen, atlas.labels, public_brain(model.plan.input))
    made: list[Relevance] = []
    left_out: list[str] = []
    for name in methods_for(model.model):
        progress(METHODS[name].title)
        try:
            made.append(METHODS[name].make(case))
        except ValueError as error:
            left_out.append(f"{METHODS[name].title}: {error}")
    progress("volumes")
    with torch.no_grad():
        output = model.output(scan.inputs)
    inner = output if isinstance(output, SMRNetOutput) else None
    return Findings(
        model.plan.task.labels,
        chosen,
        tuple(made),
        region_table(made[0], atlas),
        sure,
        scan_volumes(scan.volume, atlas, model.plan, scan.age, scan.sex),
        {} if inner is None else _attention(inner),
        () if inner is None else strongest_edges(inner, atlas),
        tuple(left_out),
    )


def _attention(output: SMRNetOutput) -> dict[str, Floats]:
    return {
        plane: np.asarray(values[0].double().cpu().numpy())
        for plane, values in output.slice_attention.items()
    }


def strongest_edges(output: SMRNetOutput, atlas: Atlas) -> tuple[Edge, ...]:
    """The anatomical edges between regions that both counted: ``weight * a_i * a_j``, scaled to 1.

    An edge says where neighbours could exchange what they hold, not that they did.
    """
    weight = atlas.adjacency.astype(np.float64) / max(float(atlas.adjacency.max()), 1e-12)
    importance = output.region_importance[0].double().cpu().numpy()
    strength = np.triu(weight * importance[:, None] * importance, 1)
    strength /= max(float(strength.max()), 1e-300)
    order = np.argsort(-strength, axis=None, kind="stable")[:_EDGES]
    pairs = [np.unravel_index(int(flat), strength.shape) for flat in order]
    return tuple(
        Edge(atlas.names[i], atlas.names[j], float(weight[i, j]), float(strength[i, j]))
        for i, j in pairs
        if strength[i, j] > 0
    )
