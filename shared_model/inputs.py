"""What a hospital can bring of a scan, and public stand-ins of the same shapes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from shared_model.batch import Batch, Inputs
from shared_model.grid import ModelGrid

#: Field of an input batch -> what it holds of B scans. A model asks for some of them.
INPUT_FIELDS: dict[str, str] = {
    "volume": "(B, 1, D, H, W) the scan on the plan's grid, standardised",
    "earlier_volume": "(B, 1, D, H, W) the patient's newest scan before; without one, the same",
    "years_between": "(B,) years since that scan; 0 without one",
    "clinical": "(B, K) the clinical variables of the plan, encoded with the plan's constants",
    "region_volumes": "(B, R) log of each region's tissue volume over the brain's, standardised",
    "structural": "(B, R, R) symmetric, non-negative structural connectome; zero where missing",
    "functional": "(B, R, R) symmetric functional connectome; zero where missing",
    "has_structural": "(B,) 1 where the scan's visit has a structural connectome, else 0",
    "has_functional": "(B,) 1 where the scan's visit has a functional connectome, else 0",
}


@dataclass(frozen=True)
class InputSizes:
    """Public sizes that decide the shapes of inputs: grid, regions R, clinical numbers K."""

    grid: ModelGrid
    regions: int = 0
    clinical: int = 0


def input_fields(batch: type[Batch] | None) -> tuple[str, ...]:
    """Names of what a model asks for; a plain volume where ``batch`` is none."""
    return ("volume",) if batch is None else tuple(field.name for field in fields(batch))


def stand_ins(
    batch: type[Batch] | None, sizes: InputSizes, count: int, generator: torch.Generator
) -> Inputs:
    """Random public inputs of ``count`` scans, for self-tests: nothing of them is of a patient."""
    made = {name: _stand_in(name, sizes, count, generator) for name in input_fields(batch)}
    return made["volume"] if batch is None else batch(**made)


def _stand_in(name: str, sizes: InputSizes, count: int, generator: torch.Generator) -> Tensor:
    def normal(*shape: int) -> Tensor:
        return torch.randn((count, *shape), generator=generator)

    regions = sizes.regions
    match name:
        case "volume" | "earlier_volume":
            return normal(1, *sizes.grid.shape)
        case "clinical":
            return normal(sizes.clinical)
        case "region_volumes":
            return normal(regions)
        case "structural":
            drawn = normal(regions, regions)
            return (drawn + drawn.transpose(1, 2)).abs()
        case "functional":
            drawn = normal(regions, regions)
            return torch.tanh(drawn + drawn.transpose(1, 2))
        case "years_between":
            return 1 + torch.rand(count, generator=generator)
        case "has_structural" | "has_functional":
            return torch.ones(count)
        case _:
            raise KeyError(f"{name!r} is not among {sorted(INPUT_FIELDS)}")
