"""The numeric check of the privacy engine on public inputs, run before the first patient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from client.privacy.secure_random import SeededRandom
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import patient_gradients
from client.training.patient_sgd import PatientSGD
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.smrnet.tokens import Tokens

_TOLERANCE = 1e-3  # float32 kernels differ between batch sizes; a coupled model is wrong by order 1
_STEP = 0.05
_CLIPPING_NORM = 1e-4  # far below any real gradient, so that the clip is at work


def synthetic_inputs(site_model: SiteModel, count: int = 2) -> Tokens | Tensor:
    """Public random inputs of ``count`` scans, of the shapes that the plan gives."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 1, *site_model.plan.input.grid.shape)
    volumes = torch.randn(shape, generator=generator).to(site_model.device)
    return site_model.tokenise(volumes) if site_model.uses_tokens else volumes


def sensitivity_self_test(site_model: SiteModel, inputs: Tokens | Tensor) -> float:
    """Check on at least two public scans, one per pretended patient, that patients do not couple.

    Verified: the gradient of a scan is the same alone and in a batch; training changes no buffer;
    removing any one patient moves the clipped sum by at most ``C (1 + 1e-5)``. Returns the largest
    such move over C. Raises SMR-E308 when any of them fails (batch statistics, memory between
    calls, a broken clip).
    """
    site_model.train_only(site_model.groups["shared"])
    site_model.model.train()
    for module in site_model.model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()  # its draws are noise of its own, not coupling
    buffers = {name: value.clone() for name, value in site_model.model.named_buffers()}
    labels = torch.arange(len(inputs), device=site_model.device) % len(site_model.plan.task.labels)
    with _nearby_parameters(site_model):
        _compare_gradients(site_model, inputs, labels)
        worst = _largest_move(site_model, inputs, labels)
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


def _compare_gradients(site_model: SiteModel, inputs: Tokens | Tensor, labels: Tensor) -> None:
    parameters = site_model.parameters(site_model.groups["shared"])
    logits = site_model.logits(inputs)
    for row in range(len(inputs)):
        loss = cross_entropy(logits[row : row + 1], labels[row : row + 1])
        batched = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        alone = site_model.logits(inputs[row : row + 1])
        loss = cross_entropy(alone, labels[row : row + 1])
        single = torch.autograd.grad(loss, parameters, allow_unused=True)
        difference, size = _distance(batched, single)
        if not difference <= _TOLERANCE * size:
            raise _coupled(
                f"a scan's gradient differs by {difference / max(size, 1e-30):.2g} in a batch",
                "the same gradient alone and in a batch",
            )


def _largest_move(site_model: SiteModel, inputs: Tokens | Tensor, labels: Tensor) -> float:
    patients = [
        PatientExamples(str(i), inputs[i : i + 1], labels[i : i + 1]) for i in range(len(inputs))
    ]
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    engine = PatientSGD(
        flat,
        patient_gradients(site_model, names, flat),
        sampling_rate=1.0,
        declared_patients=len(patients),
        noise_multiplier=1.0,
        clipping_norm=_CLIPPING_NORM,
        learning_rate=1.0,
        weight_decay=0.0,
        random=SeededRandom("self-test"),
    )
    everybody = engine.clipped_sum(patients)
    moves = [
        float((everybody - engine.clipped_sum(patients[:i] + patients[i + 1 :])).norm())
        for i in range(len(patients))
    ]
    engine.close()
    worst = max(moves) / _CLIPPING_NORM
    if not worst <= 1 + 1e-5:
        raise _coupled(f"removing one patient moves the clipped sum by {worst:.4g} C", "at most C")
    return worst


def _distance(
    these: tuple[Tensor | None, ...], those: tuple[Tensor | None, ...]
) -> tuple[float, float]:
    """Norm of the difference and of the second; a parameter without gradient counts as zero."""
    difference = size = 0.0
    for a, b in zip(these, those, strict=True):
        left = a if a is not None else torch.zeros(())
        right = b if b is not None else torch.zeros(())
        difference += float((left.double() - right.double()).square().sum())
        size += float(right.double().square().sum())
    return float(difference**0.5), float(size**0.5)


def _coupled(found: str, expected: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E308",
        "this model couples patients, so that clipping one does not bound its influence",
        expected=expected,
        found=found,
        remedy="use group normalisation, no batch statistics, no state between calls, and a loss "
        "that is a sum over scans",
    )
