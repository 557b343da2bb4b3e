from __future__ import annotations

import pytest
import torch
from smrnet_fixtures import default_dtype, scans, small_smrnet
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

LABELS = torch.tensor([0, 2, 1])


def _one_by_one(model: nn.Module, x: Tensor) -> list[dict[str, Tensor]]:
    rows = []
    for row in range(len(x)):
        model.zero_grad()
        nn.functional.cross_entropy(
            model(x[row : row + 1]).logits, LABELS[row : row + 1]
        ).backward()
        rows.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    return rows


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["fp64", "fp32"]
)
@pytest.mark.parametrize("edge_rank", [0, 2])
def test_gradients_of_patients_are_separate(
    dtype: torch.dtype, tolerance: float, edge_rank: int
) -> None:
    with default_dtype(dtype):
        model = small_smrnet(learned_edge_rank=edge_rank)
    x = scans(3, dtype=dtype)
    rows = _one_by_one(model, x)

    # The batch gradient is the sum of the patients' gradients ...
    model.zero_grad()
    nn.functional.cross_entropy(model(x).logits, LABELS, reduction="sum").backward()
    batch = dict(model.named_parameters())
    # ... and vmap(grad) gives the same patients.
    trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    def loss(parameters: dict[str, Tensor], scan: Tensor, label: Tensor) -> Tensor:
        out = functional_call(model, parameters, (scan[None],))
        return nn.functional.cross_entropy(out.logits, label[None])

    mapped = vmap(grad(loss), in_dims=(None, 0, 0))(trained, x, LABELS)

    assert set(rows[0]) == set(trained)
    whole = torch.cat([torch.stack([r[n] for r in rows]).flatten(1) for n in trained], 1)
    together = torch.cat([mapped[n].flatten(1) for n in trained], 1)
    for row in range(3):
        assert _relative(together[row], whole[row]) < tolerance
    summed = torch.cat([batch[n].grad.flatten() for n in trained])  # type: ignore[union-attr]
    assert _relative(summed, whole.sum(0)) < tolerance
    if dtype == torch.float64:
        for name in trained:
            reference = torch.stack([r[name] for r in rows])
            assert _relative(mapped[name], reference) < tolerance, name
