"""The numeric check of the privacy engine on public inputs, run before the first patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from client.privacy.secure_random import SeededRandom
from client.training.adaptive_clip import AdaptiveClip
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import patient_gradients
from client.training.patient_sgd import PatientSGD
from client.training.precision import in_precision
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.smrnet.tokens import Tokens

# Kernels differ between batch sizes in the last bits; a coupled model is wrong by order 1.
_TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}
_STEP = 0.05
_CLIPPING_NORM = 1e-4  # far below any real gradient, so that the clip is at work


def synthetic_inputs(site_model: SiteModel, count: int = 2) -> Tokens | Tensor:
    """Public random inputs of ``count`` scans, of the shapes that the plan gives."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 1, *site_model.plan.input.grid.shape)
    volumes = torch.randn(shape, generator=generator).to(site_model.device)
    return site_model.tokenise(volumes) if site_model.uses_tokens else volumes


def sensitivity_self_test(site_model: SiteModel, inputs: Tokens | Tensor) -> float:
    """Check on at least two public scans that the plan's engine treats patients one by one.

    Verified, with everything that the plan switches on (precision, adaptive clipping, mapped or
    looped gradients) and without dropout: a scan's gradient is the same alone and in a batch; the
    engine's gradient of a patient of several scans, or views, is the mean over the scans' own;
    training changes no buffer; adding one patient moves the clipped sum by at most ``C (1 + 1e-5)``
    and the count within the norm by 1/2. Returns the largest move of the sum over C.

    Raises SMR-E308 when any of them fails (batch statistics, memory between calls, a broken clip).
    """
    site_model.train_only(site_model.groups["shared"])
    site_model.model.train()
    for module in site_model.model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()  # its draws are noise of its own, not coupling
    buffers = {name: value.clone() for name, value in site_model.model.named_buffers()}
    labels = torch.arange(len(inputs), device=site_model.device) % len(site_model.plan.task.labels)
    with _nearby_parameters(site_model):
        alone = _gradients_alone(site_model, inputs, labels)
        _compare_with_a_batch(site_model, inputs, labels, alone)
        rows = _compare_with_the_engine(site_model, inputs, labels, alone)
        worst = _largest_move(site_model, rows)
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


def _gradients_alone(site_model: SiteModel, inputs: Tokens | Tensor, labels: Tensor) -> Tensor:
    """``(n, P)`` float64: one ordinary forward and backward per scan, the truth."""
    forward = in_precision(site_model)
    parameters = site_model.parameters(site_model.groups["shared"])
    rows = []
    for i in range(len(inputs)):
        loss = cross_entropy(forward(inputs[i : i + 1]), labels[i : i + 1])
        rows.append(_flat(torch.autograd.grad(loss, parameters, allow_unused=True), parameters))
    return torch.stack(rows)


def _compare_with_a_batch(
    site_model: SiteModel, inputs: Tokens | Tensor, labels: Tensor, alone: Tensor
) -> None:
    """One backward for all scans: different weights tell a scan's own gradient from the others'."""
    parameters = site_model.parameters(site_model.groups["shared"])
    weights = torch.arange(1.0, 2 * len(inputs), 2, device=labels.device)
    losses = cross_entropy(in_precision(site_model)(inputs), labels, reduction="none")
    gradient = torch.autograd.grad((weights * losses).sum(), parameters, allow_unused=True)
    _same(
        site_model,
        _flat(gradient, parameters),
        weights.double() @ alone,
        "scans' gradients, alone and in a batch,",
    )


def _compare_with_the_engine(
    site_model: SiteModel, inputs: Tokens | Tensor, labels: Tensor, alone: Tensor
) -> Tensor:
    """``(n + 1, P)`` rows of the plan's own engine: a patient of all scans, then one of each."""
    patients = [PatientExamples("all", inputs, labels)] + [
        PatientExamples(str(i), inputs[i : i + 1], labels[i : i + 1]) for i in range(len(inputs))
    ]
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    try:
        engine = patient_gradients(site_model, names, flat)
        rows = torch.cat([rows.to(torch.float64, copy=True) for rows in engine(patients)])
    finally:
        flat.close()
    expected = torch.cat([alone.mean(0, keepdim=True), alone])
    _same(site_model, rows, expected, "patients' gradients, by the engine and scan by scan,")
    return rows


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
    if not worst <= 1 + 1e-5:
        raise _coupled(f"removing one patient moves the clipped sum by {worst:.4g} C", "at most C")
    return worst


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


def _same(site_model: SiteModel, found: Tensor, truth: Tensor, what: str) -> None:
    difference, size = float((found - truth).norm()), float(truth.norm())
    tolerance = _TOLERANCES[site_model.plan.training.precision]
    if not difference <= tolerance * size:
        raise _coupled(
            f"{what} differ by {difference / max(size, 1e-30):.2g}",
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
