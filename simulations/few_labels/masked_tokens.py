"""Self-supervision on public scans: predict hidden region tokens from the others, and age and sex.

It starts the reasoner, the part that hospitals train; the encoder stays as it is. Everything is
fitted on public people only, without a diagnosis, so that it costs no patient's privacy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from client.training.site_model import SiteModel
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.tokens import Tokens


@dataclass(frozen=True)
class MaskedOptions:
    """Schedule; the seed fixes every draw."""

    steps: int = 400
    batch_size: int = 16
    learning_rate: float = 5e-3
    hidden_share: float = 0.3
    person_weight: float = 0.3
    seed: int = 0


def pretrain_reasoner(
    model: SiteModel, head: frozenset[str], tokens: Tokens, person: Tensor, options: MaskedOptions
) -> list[float]:
    """Fit the shared parameters but the head to public tokens; returns the loss of every step.

    In each step a random share of the regions is hidden (at all scales, set to the population's
    mean, which is zero). The graph must predict the finest-scale tokens of the hidden regions, and
    the embedding the person: z-scored age and sex ``(N, 2)``.

    ``head`` are the parameters that speak of classes; they are left alone. The read-outs of the
    pretext tasks are thrown away. Raises TypeError for a model that is not SMR-Net.
    """
    network = model.model
    if not isinstance(network, SMRNet):
        raise TypeError(f"masked tokens are for SMR-Net, not {type(network).__name__}")
    names = [name for name in model.groups["shared"] if name not in head]
    model.train_only(names)
    rng = np.random.default_rng(options.seed)
    regions, features = tokens.regions.shape[2:]
    probe = network.reason(tokens[[0]])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(options.seed)
        hidden_head = _RegionHeads(regions, network.config.node_features, features)
        person_head = nn.Linear(probe.embedding.shape[1], person.shape[1])
    trained = [*model.parameters(names), *hidden_head.parameters(), *person_head.parameters()]
    optimiser = torch.optim.Adam(trained, lr=options.learning_rate)
    losses = []
    for _ in range(options.steps):
        rows = rng.choice(len(tokens), min(options.batch_size, len(tokens)), replace=False)
        batch = tokens[rows.tolist()]
        hidden = torch.from_numpy(rng.random((len(batch), regions)) < options.hidden_share)
        guess = hidden_head(_nodes(network, batch, hidden))
        missed = (guess - batch.regions[:, 0]).square().mean(2)
        loss = (missed * hidden).sum() / hidden.sum().clamp(min=1)
        told = person_head(network.reason(batch).embedding)
        loss = loss + options.person_weight * (told - person[rows.tolist()]).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        losses.append(loss.item())
    model.train_only(model.groups["shared"])
    return losses


def _nodes(network: SMRNet, tokens: Tokens, hidden: Tensor) -> Tensor:
    """``(B, R, G)`` graph nodes with the tokens of ``hidden`` ``(B, R)`` set to zero."""
    reasoner = network.reasoner
    seen = tokens.regions * ~hidden[:, None, :, None]
    fused, _ = reasoner.region_fusion(reasoner.region_norm(seen[:, : reasoner.scales]))
    return cast(Tensor, reasoner.graph(fused))


class _RegionHeads(nn.Module):
    """A linear read-out for each region, around a common one: ``(B, R, G)`` to ``(B, R, F)``."""

    def __init__(self, regions: int, nodes: int, features: int) -> None:
        super().__init__()
        self.common = nn.Parameter(torch.randn(nodes, features) / nodes**0.5)
        self.own = nn.Parameter(torch.zeros(regions, nodes, features))

    def forward(self, nodes: Tensor) -> Tensor:
        return torch.einsum("brg,rgf->brf", nodes, self.common + self.own)


def joined(parts: Sequence[object]) -> Tokens:
    """Tokens of several patients, one scan each; raises TypeError for other inputs."""
    if not all(isinstance(part, Tokens) for part in parts):
        raise TypeError("cached tokens of SMR-Net are needed")
    return Tokens.cat([cast(Tokens, part) for part in parts])
