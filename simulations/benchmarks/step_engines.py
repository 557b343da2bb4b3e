"""The engines of the training-step benchmark: smrfed's own, and Opacus's for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from opacus import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
    GradSampleModuleFastGradientClipping,
)
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from client.archive.patients import Patient, Scan
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import MappedGradients, patient_gradients
from client.training.patient_sgd import PatientSGD
from client.training.plain_sgd import PlainSGD
from client.training.scan_inputs import ScanInputs
from client.training.self_test import synthetic_inputs
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import SecureRandom, SeededRandom
from shared_model.smrnet.tokens import Tokens

Engine = Literal[
    "plain",
    "plain, one by one",
    "private",
    "vmap(grad)",
    "Opacus hooks",
    "Opacus functorch",
    "Opacus ghost",
]
#: What others offer; each is tried, and the table says where one cannot run on a model.
OTHERS: tuple[Engine, ...] = ("vmap(grad)", "Opacus hooks", "Opacus functorch", "Opacus ghost")
_SAME = 1e-2  # relative difference of clipped sums in float32 that counts as wrong
_PROBE_NORM = 1e-3


class Steps(Protocol):
    """Something that takes training steps."""

    def step(self, patients: Sequence[PatientExamples]) -> object:
        """Take one step over these patients."""

    def close(self) -> None:
        """Detach from the model."""


class EncoderClassifier(nn.Module):
    """SMR-Net's encoder with a linear head: what every engine can run on."""

    def __init__(self, encoder: nn.Module, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> SimpleNamespace:
        """``(B, 1, D, H, W)`` to an object with logits ``(B, C)``."""
        return SimpleNamespace(logits=self.head(self.encoder(x)[-1].mean((2, 3, 4))))


def encoder_classifier(site_model: SiteModel) -> SiteModel:
    """The encoder of a model, with a head of its own, as a model that trains as a whole."""
    plan = site_model.plan
    data = plan.model_dump(mode="json")
    data["groups"] = {
        "frozen": ["*.site_scale", "*.site_shift", "encoder.laterals.*"],
        "shared": ["*"],
        "site": [],
    }
    encoder: Any = site_model.model.encoder
    channels = encoder.stages[-1].down.conv.out_channels
    model = EncoderClassifier(encoder, channels, len(plan.task.labels))
    return SiteModel(model, FederationPlan.parse(data))


def patients_for(engine: Engine, model: SiteModel, count: int) -> list[PatientExamples]:
    """Patients of one scan each; volumes one by one as from disk, or as they come in a batch."""

    class Held:
        """A store whose volumes are in memory already."""

        def volume(self, scan: Scan) -> npt.NDArray[np.float32]:
            return volumes[scan]

    volumes: dict[Scan, npt.NDArray[np.float32]] = {}
    out = []
    for number in range(count):
        inputs = synthetic_inputs(model, 1)
        label = number % len(model.plan.task.labels)
        labels = torch.tensor([label])
        if isinstance(inputs, Tensor) and engine in ("plain, one by one", "private"):
            scan = Scan("", Path(f"scan-{number}"), label, None)
            volumes[scan] = inputs[0, 0].numpy()
            held = ScanInputs(model, Held(), Patient(str(number), None, (scan,)))
            out.append(PatientExamples(str(number), held, labels))
        else:
            out.append(PatientExamples(str(number), inputs, labels))
    return out


def open_engine(engine: Engine, model: SiteModel, count: int) -> Steps:
    """An engine at the model's present parameters; all patients join every step."""
    plan, names = model.plan, model.groups["shared"]
    if engine.startswith("Opacus"):
        return OpacusSteps(engine, model, count, plan.privacy.clipping_norm)
    if engine.startswith("plain"):
        return PlainSGD(
            model.output,
            model.parameters(names),
            sampling_rate=1.0,
            declared_patients=count,
            learning_rate=plan.training.learning_rate,
            weight_decay=plan.training.weight_decay,
            random=SeededRandom("benchmark"),
        )
    return _private(engine, model, count, plan.privacy.clipping_norm)


def _private(engine: Engine, model: SiteModel, count: int, clip: float) -> PatientSGD:
    plan, names = model.plan, model.groups["shared"]
    flat = FlatParameters(model.parameters(names))
    return PatientSGD(
        flat,
        MappedGradients(model.model, names, len(flat.gradient), scans=count)
        if engine == "vmap(grad)"
        else patient_gradients(model, names, flat),
        sampling_rate=1.0,
        declared_patients=count,
        noise_multiplier=plan.privacy.noise_multiplier,
        clipping_norm=clip,
        learning_rate=plan.training.learning_rate,
        weight_decay=plan.training.weight_decay,
        random=SecureRandom(),
    )


class OpacusSteps:
    """Opacus as its documentation has it: all patients in one batch, a wrapped module."""

    def __init__(self, engine: Engine, model: SiteModel, count: int, clip: float) -> None:
        self._model = model
        self._ghost = engine == "Opacus ghost"
        network = _Logits(model.model)
        if self._ghost:
            self._module = GradSampleModuleFastGradientClipping(
                network,
                loss_reduction="sum",
                strict=False,
                max_grad_norm=clip,
                use_ghost_clipping=True,
            )
        else:
            self._module = GradSampleModule(
                network,
                loss_reduction="sum",
                strict=False,  # its own check refuses constants beside parameters
                force_functorch=engine == "Opacus functorch",
            )
        plan = model.plan
        kind = DPOptimizerFastGradientClipping if self._ghost else DPOptimizer
        trained = [p for p in model.model.parameters() if p.requires_grad]
        self.optimizer = kind(
            torch.optim.SGD(trained, lr=plan.training.learning_rate),
            noise_multiplier=plan.privacy.noise_multiplier,
            max_grad_norm=clip,
            expected_batch_size=count,
            loss_reduction="sum",
        )

    def step(self, patients: Sequence[PatientExamples]) -> None:
        """Forward and backward of all patients at once, then Opacus's step."""
        self.backward(patients)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, patients: Sequence[PatientExamples]) -> None:
        """Leave what Opacus takes from a backward pass at the parameters."""
        inputs = [patient.inputs for patient in patients]
        labels = torch.cat([patient.labels for patient in patients])
        if isinstance(inputs[0], Tokens):
            tokens = Tokens.cat(inputs)  # type: ignore[arg-type]
            logits = self._module(tokens.regions, tokens.slices)
        else:
            logits = self._module(torch.cat(inputs))  # type: ignore[arg-type]
        if self._ghost:
            criterion = DPLossFastGradientClipping(
                self._module, self.optimizer, nn.CrossEntropyLoss(reduction="sum"), "sum"
            )
            criterion(logits, labels).backward()
        else:
            cross_entropy(logits, labels, reduction="sum").backward()  # type: ignore[no-untyped-call]

    def clipped_sum(self, patients: Sequence[PatientExamples]) -> Tensor:
        """``(P,)`` sum before the noise."""
        self.backward(patients)
        if self._ghost:
            self.optimizer.accumulate()
        else:
            self.optimizer.clip_and_accumulate()
        parameters = self._model.parameters(self._model.groups["shared"])
        found = [p.summed_grad.reshape(-1).double() for p in parameters]  # type: ignore[attr-defined]
        self.optimizer.zero_grad(set_to_none=True)
        for parameter in parameters:
            parameter.summed_grad = None  # type: ignore[attr-defined]
        return torch.cat(found)

    def close(self) -> None:
        """Take the hooks away."""
        self._module.remove_hooks()
        for parameter in self._model.model.parameters():
            for name in ("grad_sample", "summed_grad", "_norm_sample"):
                if hasattr(parameter, name):
                    delattr(parameter, name)
            parameter.grad = None


class _Logits(nn.Module):
    """A model as a function from tensors to logits, which is what Opacus wraps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *parts: Tensor) -> Tensor:
        """``(B, C)`` logits."""
        model: Any = self.model
        out = model(parts[0]) if len(parts) == 1 else model.reason(Tokens(*parts))
        logits: Tensor = out.logits
        return logits


def refusal(engine: Engine, model: SiteModel, count: int) -> str:
    """Why an engine's figures would mean nothing on this model; empty when they agree with ours.

    Runs the engine's own backward once, and holds its clipped sum against the private engine's.
    """
    patients = patients_for(engine, model, count)
    ours = _private("private", model, count, _PROBE_NORM)
    expected = ours.clipped_sum(patients)
    ours.close()
    try:
        if engine == "vmap(grad)":
            mapped = _private(engine, model, count, _PROBE_NORM)
            found = mapped.clipped_sum(patients)
            mapped.close()
        else:
            other = OpacusSteps(engine, model, count, _PROBE_NORM)
            try:
                found = other.clipped_sum(patients)
            finally:
                other.close()
    except Exception as error:  # whatever another library raises is the finding
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    difference = float((found - expected).norm() / expected.norm())
    if not difference <= _SAME:
        return f"wrong: its clipped sum differs by {difference:.2g} of ours"
    return ""
