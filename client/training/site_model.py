"""The plan's model at one hospital: built, split into parameter groups, loaded and read by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.privacy.composition import site_trains_in_rounds
from client.training.patient_loss import ModelOutput
from shared_model import registry
from shared_model.atlas.atlas import Atlas
from shared_model.batch import Batch, Inputs
from shared_model.errors import SmrfedError
from shared_model.groups import Group
from shared_model.inputs import InputSizes
from shared_model.models.entry import TokenModel
from shared_model.plan import FederationPlan
from shared_model.plan_model import build_plan_model, inconsistent
from shared_model.protocol.arrays import Arrays

_RESIDUAL = (".site_scale", ".site_shift")


class SiteModel:
    """A model whose parameters are addressed by group and name, never by position.

    Args:
        model: its forward returns an object with ``logits (B, C)``.
        plan: names the groups; a residual of layer A outside ``site`` or ``frozen`` raises
            SMR-E305, because it would be averaged over hospitals.
        regions: of the plan's atlas, where the model reads something for each; a model with
            ``nodes`` of its own, such as the regions of connectomes, is asked instead.
    """

    def __init__(self, model: nn.Module, plan: FederationPlan, regions: int = 0) -> None:
        self.model = model
        self.plan = plan
        self._parameters = dict(model.named_parameters())
        self.groups = plan.groups.split(self._parameters)
        self._check_groups()
        #: What the registry says about the model: its inputs and its loss.
        self.entry = registry.model_entry(plan.model.name)
        #: Public sizes of its inputs.
        self.sizes = InputSizes(
            plan.input.grid, getattr(model, "nodes", regions), plan.input.clinical.width
        )
        #: Whether inputs are cached tokens: the model has them, and nothing below them trains.
        self.uses_tokens = isinstance(model, TokenModel) and {
            name for name in self._parameters if not name.startswith(model.above_tokens)
        } <= set(self.groups["frozen"])
        self._public_site = self.site_arrays()
        self.train_only(self.groups["shared"])

    @classmethod
    def build(
        cls,
        plan: FederationPlan,
        atlas: Atlas,
        weights_folders: tuple[Path, ...] = (),
        device: torch.device | str = "cpu",
    ) -> Self:
        """The registered model of a plan, with its public weights, on a device.

        Raises SMR-E305 (groups, or two values of site_norm), SMR-E105 (weights missing) and the
        registry's SMR-E601 to E606.
        """
        model = build_plan_model(plan, atlas, weights_folders)
        return cls(model.to(device), plan, len(atlas.names))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self._parameters.values())).device

    def trained(self, plan: FederationPlan) -> tuple[str, ...]:
        """Names of the parameters that a round trains: one vector under one clip and one noise.

        ``plan`` may differ from the model's own in how it trains.
        """
        own = self.groups["site"] if site_trains_in_rounds(plan) else ()
        return (*self.groups["shared"], *own)

    @property
    def shared_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the federated parameters by name."""
        return {name: tuple(self._parameters[name].shape) for name in self.groups["shared"]}

    def parameters(self, names: Iterable[str]) -> tuple[nn.Parameter, ...]:
        """Parameters by name, in the order of the names."""
        return tuple(self._parameters[name] for name in names)

    def train_only(self, names: Iterable[str]) -> None:
        """Let exactly these parameters require gradients."""
        trained = set(names)
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(name in trained)

    def output(self, inputs: Inputs) -> ModelOutput:
        """What the model says about its tokens or its inputs, such as ``(B, 1, D, H, W)``."""
        if isinstance(self.model, TokenModel) and isinstance(inputs, self.model.tokens):
            return self.model.reason(inputs)
        return cast(ModelOutput, self.model(inputs))

    def logits(self, inputs: Inputs) -> Tensor:
        """``(B, C)`` from tokens or inputs."""
        return self.output(inputs).logits

    @torch.no_grad()
    def tokenise(self, inputs: Inputs) -> Batch:
        """Tokens of inputs, as ``(B, 1, D, H, W)``, without a graph; see :attr:`uses_tokens`."""
        return cast(Batch, cast(TokenModel, self.model).tokenise(inputs))

    def load_shared(self, arrays: Arrays) -> None:
        """Set the shared parameters; raises SMR-E330 unless names and shapes are exactly theirs."""
        self._load("shared", arrays)

    def load_site(self, arrays: Arrays) -> None:
        """Set the site parameters, as stored by this hospital; raises SMR-E330."""
        self._load("site", arrays)

    def load_own(self, arrays: Arrays) -> None:
        """Set what this hospital keeps for itself: site parameters, and its own shared ones if any.

        Under MR-MTL ``arrays`` holds the hospital's copy of every shared parameter as well; without
        it the shared parameters stay as they are. Raises SMR-E330.
        """
        shared = {name: value for name, value in arrays.items() if name in self.groups["shared"]}
        self._load("site", {name: v for name, v in arrays.items() if name not in shared})
        if shared:
            self._load("shared", shared)

    def reset_site(self) -> None:
        """Set the site parameters to their public initial values (residuals: zero)."""
        self._load("site", self._public_site)

    def shared_arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Copies of the shared parameters, float32."""
        return self._arrays("shared")

    def site_arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Copies of the site parameters, float32; they never leave the hospital."""
        return self._arrays("site")

    def _arrays(self, group: Group) -> dict[str, npt.NDArray[np.float32]]:
        return {
            name: self._parameters[name].detach().to("cpu", torch.float32).numpy().copy()
            for name in self.groups[group]
        }

    @torch.no_grad()
    def _load(self, group: Group, arrays: Arrays) -> None:
        expected = {name: tuple(self._parameters[name].shape) for name in self.groups[group]}
        found = {name: tuple(value.shape) for name, value in arrays.items()}
        if expected != found:
            raise SmrfedError(
                "SMR-E330",
                f"the {group} parameters do not fit the model of plan {self.plan.name!r}",
                expected=_differences(expected, found),
                found=_differences(found, expected),
                remedy="check that coordinator and site run the same smrfed version and atlas",
            )
        for name, value in arrays.items():
            self._parameters[name].copy_(torch.from_numpy(np.array(value)))

    def _check_groups(self) -> None:
        misplaced = [name for name in self.groups["shared"] if name.endswith(_RESIDUAL)]
        if misplaced:
            raise inconsistent(f"{misplaced[:3]} in group 'shared'", "group 'site' or 'frozen'")
        if not self.groups["shared"]:
            raise inconsistent("no shared parameters", "at least one")


def _differences(
    these: Mapping[str, tuple[int, ...]], those: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    return dict([item for item in these.items() if those.get(item[0]) != item[1]][:5])
