"""The numeric check of the privacy engine on public inputs, run before the first patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from client.training.adaptive_clip import AdaptiveClip
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.integer_sum import IntegerPatientSum
from client.training.patient_gradients import patient_gradients
from client.training.patient_loss import PatientLoss
from client.training.patient_sgd import PatientSGD
from client.training.precision import in_precision
from client.training.site_loss import site_loss
from client.training.site_model import SiteModel
from shared_model.adaptation.dimensions import moments_dimensions
from shared_model.adaptation.moments import SiteMoments
from shared_model.batch import Inputs
from shared_model.errors import SmrfedError
from shared_model.inputs import stand_ins
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import SeededRandom
from shared_model.privacy.summed_noise import section_of

# Kernels differ between batch sizes in the last bits; a coupled model is wrong by order 1.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}
_STEP = 0.05
_STAND_INS = ("stand-in-1", "stand-in-2")  # where a plan has one site only
_CLIPPING_NORM = 1e-4  # far below any real gradient, so that the clip is at work


def synthetic_inputs(site_model: SiteModel, count: int = 2) -> Inputs:
    """Public random inputs of ``count`` scans, of the shapes that the plan gives."""
    generator = torch.Generator().manual_seed(0)
    made = stand_ins(site_model.entry.batch, site_model.sizes, count, generator)
    inputs = made.to(site_model.device)
    return site_model.tokenise(inputs) if site_model.uses_tokens else inputs


def synthetic_targets(site_model: SiteModel, count: int) -> Tensor:
    """Every class in turn, or a map ``(D, H, W)`` with two lesions for each of ``count`` scans."""
    if site_model.entry.task == "classification":
        return torch.arange(count, device=site_model.device) % len(site_model.plan.task.labels)
    maps = torch.zeros(count, *site_model.sizes.grid.shape, dtype=torch.int16)
    for scan in range(count):
        maps[scan, 8 + scan : 12 + scan, 8:12, 8:12] = 1
        maps[scan, 16:18, 14:18, 12:15] = 2
    return maps.to(site_model.device)


def sensitivity_self_test(site_model: SiteModel, inputs: Inputs) -> float:
    """Check on at least two public scans that the plan's engine treats patients one by one.

    Verified, with everything that the plan switches on (precision, adaptive clipping, layer B's
    loss, gradients in batches or a loop) and without dropout: the engine's gradient of a patient of
    several scans, or views, is the mean over the scans' own, which is the same scan by scan and in
    a batch; training changes no buffer; adding one patient moves the clipped sum by at most
    ``C (1 + 1e-5)`` and the count within the norm by 1/2. Returns the largest move of the sum
    over C.

    Raises SMR-E308 when any of them fails (batch statistics, memory between calls, a broken clip).
    """
    site_model.train_only(site_model.trained(site_model.plan))
    site_model.model.train()
    for module in site_model.model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()  # its draws are noise of its own, not coupling
    buffers = {name: value.clone() for name, value in site_model.model.named_buffers()}
    labels = synthetic_targets(site_model, len(inputs))
    with _nearby_parameters(site_model):
        held = inputs if site_model.uses_tokens else _OneByOne(inputs)
        everybody = [PatientExamples("all", held, labels)]
        row = _of_the_engine(site_model, everybody)
        batch = _in_a_batch(site_model, inputs, labels)
        _compare(site_model, row[0], batch, "all scans in a batch")
        rows = [row, torch.linspace(-1, 1, row.shape[1], dtype=row.dtype, device=row.device)[None]]
        if site_model.uses_tokens:
            rows.append(_compare_scan_by_scan(site_model, inputs, labels, everybody))
        worst = _largest_move(site_model, torch.cat(rows))
    for name, value in site_model.model.named_buffers():
        if not torch.equal(value, buffers[name]):
            raise _coupled(f"buffer {name!r} changed in training", "constant buffers")
    return worst


@contextmanager
def _nearby_parameters(site_model: SiteModel) -> Iterator[None]:
    """Move the shared parameters a little, and back afterwards.

    Evidence that starts at zero hides the gradient of all that lies before it, and a coupled layer
    there would pass unseen.
    """
    shared = site_model.shared_arrays()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in site_model.parameters(shared):
            step = torch.randn(parameter.shape, generator=generator) * _STEP
            parameter.add_(step.to(parameter.device, parameter.dtype))
    try:
        yield
    finally:
        site_model.load_shared(shared)


def _planned_loss(plan: FederationPlan) -> PatientLoss:
    """The loss of the plan, with public stand-ins for the moments that layer B will release."""
    if plan.adaptation.site_moments not in ("confusion", "linear"):
        return site_loss(plan, "", None)
    random = np.random.default_rng(0)
    classes, size = len(plan.task.labels), moments_dimensions(plan)
    first, second, *_ = (*plan.weights, *_STAND_INS)
    moments = {
        site: SiteMoments(
            random.standard_normal((classes, size)),
            np.full(classes, 10.0),
            random.uniform(0.5, 2.0, size),
            np.zeros(classes),
        )
        for site in (first, second)
    }
    return site_loss(plan, first, moments)


def _of_the_engine(site_model: SiteModel, patients: Sequence[PatientExamples]) -> Tensor:
    """``(n, P)`` float64: the patients' gradients as training computes them."""
    names = site_model.trained(site_model.plan)
    flat = FlatParameters(site_model.parameters(names))
    try:
        engine = patient_gradients(site_model, names, flat, _planned_loss(site_model.plan))
        return torch.cat([rows.to(torch.float64, copy=True) for rows in engine(patients)])
    finally:
        flat.close()


def _in_a_batch(site_model: SiteModel, inputs: Inputs, labels: Tensor) -> Tensor:
    """``(P,)`` float64: one ordinary backward pass of the mean loss of all scans."""
    parameters = site_model.parameters(site_model.trained(site_model.plan))
    loss = _planned_loss(site_model.plan)(in_precision(site_model)(inputs), labels).mean()
    return _flat(torch.autograd.grad(loss, parameters, allow_unused=True), parameters)


def _compare_scan_by_scan(
    site_model: SiteModel,
    inputs: Inputs,
    labels: Tensor,
    everybody: list[PatientExamples],
) -> Tensor:
    """``(n, P)`` gradients of the scans alone: what an engine of batches must be held against.

    Volumes are not: their engine takes them one by one, and a pass costs too much to do it twice.
    """
    scans = [(inputs[i : i + 1], labels[i : i + 1]) for i in range(len(inputs))]
    alone = torch.stack([_in_a_batch(site_model, *scan) for scan in scans])
    singles = [PatientExamples(str(i), *scan) for i, scan in enumerate(scans)]
    found = _of_the_engine(site_model, everybody + singles)
    expected = torch.cat([alone.mean(0, keepdim=True), alone])
    _compare(site_model, found, expected, "scan by scan")
    return alone


def _largest_move(site_model: SiteModel, rows: Tensor) -> float:
    """Largest move of the clipped sum, over the norm, when one of these gradients joins."""
    adaptive = AdaptiveClip.of(site_model.plan.privacy)
    master = nn.Parameter(torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device))
    engine = PatientSGD(
        FlatParameters([master]),
        _Rows(rows),
        sampling_rate=1.0,
        declared_patients=len(rows),
        noise_multiplier=1.0,
        clipping_norm=_CLIPPING_NORM,
        learning_rate=1.0,
        weight_decay=0.0,
        random=SeededRandom("self-test"),
        adaptive=None if adaptive is None else replace(adaptive, bound=_CLIPPING_NORM),
    )
    patients = [
        PatientExamples(str(i), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
        for i in range(len(rows))
    ]
    everybody, count = engine.clipped_sums(patients)
    worst = 0.0
    for i in range(len(patients)):
        others, fewer = engine.clipped_sums(patients[:i] + patients[i + 1 :])
        worst = max(worst, float((everybody - others).norm()) / _CLIPPING_NORM)
        if abs(count - fewer) != 0.5:
            raise _coupled(f"one patient moves the count by {count - fewer}", "by 1/2")
    engine.close()
    if site_model.plan.privacy.summed:
        worst = max(worst, _largest_integer_move(rows, patients, site_model.plan))
    if not worst <= 1 + 1e-5:
        raise _coupled(f"removing one patient moves the clipped sum by {worst:.4g} C", "at most C")
    return worst


def _largest_integer_move(
    rows: Tensor, patients: list[PatientExamples], plan: FederationPlan
) -> float:
    """The same of the integers of a secure sum, which are exact: never above 1."""
    section = section_of(plan)
    # The plan's own norm and grid, and rows as far above that norm as they were above the other.
    longer = rows.double() * (plan.privacy.clipping_norm / _CLIPPING_NORM)
    sums = IntegerPatientSum(
        _Rows(longer),
        rows.shape[1],
        clipping_norm=plan.privacy.clipping_norm,
        fraction_bits=section.fraction_bits,
    )
    most = plan.privacy.clipping_norm * 2.0**section.fraction_bits
    everybody = sums.of_patients(patients)
    return max(
        float(np.linalg.norm(everybody - sums.of_patients(patients[:i] + patients[i + 1 :]))) / most
        for i in range(len(patients))
    )


@dataclass(frozen=True)
class _OneByOne:
    """Scans as a hospital reads them: one at a time."""

    scans: Inputs

    def __len__(self) -> int:
        return len(self.scans)

    def read(self, index: int) -> Inputs:
        """One scan, such as ``(1, 1, D, H, W)``."""
        return self.scans[index : index + 1]


class _Rows:
    """Gradients that are known already, by the number that a patient is called."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def __call__(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        yield self._rows[[int(patient.id) for patient in patients]]


def _flat(gradient: tuple[Tensor | None, ...], parameters: tuple[nn.Parameter, ...]) -> Tensor:
    """``(P,)`` float64; a parameter without gradient counts as zero."""
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).detach().reshape(-1).double()
            for g, p in zip(gradient, parameters, strict=True)
        ]
    )


def _compare(site_model: SiteModel, found: Tensor, truth: Tensor, what: str) -> None:
    difference, size = float((found - truth).norm()), float(truth.norm())
    tolerance = _TOLERANCES[site_model.plan.training.precision]
    if not difference <= tolerance * size:
        raise _coupled(
            f"patients' gradients, by the engine and {what}, differ by "
            f"{difference / max(size, 1e-30):.2g}",
            f"the same to {tolerance:g}",
        )


def _coupled(found: str, expected: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E308",
        "this model couples patients, so that clipping one does not bound its influence",
        expected=expected,
        found=found,
        remedy="use group normalisation, no batch statistics, no state between calls, and a loss "
        "that is a sum over scans",
    )
