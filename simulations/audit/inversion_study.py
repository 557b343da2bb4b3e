"""Gradient inversion against actual updates of one patient, with and without privacy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d

from client.training.examples import PatientExamples
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups
from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.model import SMRNet
from simulations.audit.canary_model import Logits
from simulations.audit.inversion import InversionSettings, invert, standardised
from simulations.audit.similarity import psnr, ssim, to_unit
from simulations.cohort.anatomy import anatomy_volume
from simulations.cohort.design import default_cohort
from simulations.cohort.subject import draw_subject

SITE = "inverted"
_POOL = 4  # 2 mm to 8 mm: what a double backward can do a few hundred times on a CPU
_WIDTH = 8
_HIDDEN = 16
_START = 0.1  # of the head, which starts at zero and would hide the encoder's gradient

Volume = npt.NDArray[np.float32]


class Inversion(BaseModel):
    """One attack: what trained, whether it was noised, and how like the image the result is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    title: str
    private: bool
    parameters: int
    cosine: float = Field(description="with the released update, at the end of the attack")
    ssim: float
    psnr_db: float


@dataclass(frozen=True, eq=False)
class InversionStudy:
    """All attacks on one patient, and ``(D, H, W)`` images in [0, 1] by key; ``original`` too."""

    attacks: tuple[Inversion, ...]
    images: dict[str, Volume]


@dataclass(frozen=True)
class _Arm:
    key: str
    title: str
    encoder: str
    private: bool


_ARMS = (
    _Arm("control", "control: one dense layer, no privacy", "dense", False),
    _Arm("control-private", "control: one dense layer, with privacy", "dense", True),
    _Arm("trained", "SMR-Net with its encoder trained, no privacy", "shared", False),
    _Arm("trained-private", "SMR-Net with its encoder trained, with privacy", "shared", True),
    _Arm("frozen", "SMR-Net, encoder frozen (default), no privacy", "frozen", False),
    _Arm("frozen-private", "SMR-Net, encoder frozen (default), with privacy", "frozen", True),
)


def invert_updates(
    noise_multiplier: float,
    seed: int,
    steps: int = 400,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    keys: Sequence[str] | None = None,
) -> InversionStudy:
    """Let a synthetic patient cause one update per arm, and attack each of them.

    The worst case for the patient: alone in the step, label and weights known, one step.
    """
    volume, inside = small_patient(seed)
    low, high = float(volume.min()), float(volume.max())
    original = to_unit(volume, low, high)
    images = {"original": original.numpy()}
    # What an attacker guesses without any update: the public mask, filled with its mean.
    blank = to_unit(torch.zeros_like(volume), low, high)
    images["mask"] = blank.numpy()
    found = [
        Inversion(
            key="mask", title="no update: the public brain mask in one grey", private=True,
            parameters=0, cosine=0.0, ssim=ssim(blank, original, inside),
            psnr_db=psnr(blank, original, inside),
        )
    ]  # fmt: skip
    arms = [arm for arm in _ARMS if keys is None or arm.key in keys]
    for number, arm in enumerate(arms):
        site_model = _site_model(arm, noise_multiplier, inside, seed)
        shared = site_model.groups["shared"]
        before = site_model.shared_arrays()
        update = train_round(site_model, [_patient(site_model, volume)], site_model.plan, SITE, 1,
                             "audit").delta  # fmt: skip
        site_model.load_shared(before)
        site_model.model.eval()
        reached, cosine = invert(
            lambda x: site_model.model(x).logits,  # noqa: B023
            site_model.parameters(shared),
            # The update points against the gradient; its length does not matter to a cosine.
            [-torch.from_numpy(update[name]) for name in shared],
            1,
            inside,
            InversionSettings(steps=steps, seed=seed),
            lambda done, number=number: progress(number * steps + done, len(arms) * steps),  # type: ignore[misc]
        )
        shown = to_unit(reached, low, high)
        images[arm.key] = shown.numpy()
        found.append(
            Inversion(
                key=arm.key,
                title=arm.title,
                private=arm.private,
                parameters=sum(value.size for value in update.values()),
                cosine=cosine,
                ssim=ssim(shown, original, inside),
                psnr_db=psnr(shown, original, inside),
            )
        )
    return InversionStudy(tuple(found), images)


def small_patient(seed: int) -> tuple[Tensor, Tensor]:
    """A synthetic patient ``(22, 26, 22)`` at 8 mm, standardised in the brain, and the brain."""
    spec = default_cohort(1, seed)
    subject = draw_subject(spec, spec.sites[0], 0)
    volume, _, _ = anatomy_volume(subject, subject.visits[0])
    coarse = avg_pool3d(torch.from_numpy(volume.astype(np.float32))[None, None], _POOL)[0, 0]
    inside = coarse > 0.1 * coarse.max()
    return standardised(coarse, inside), inside


def _patient(site_model: SiteModel, volume: Tensor) -> PatientExamples:
    scan = volume[None, None]
    inputs = site_model.tokenise(scan) if site_model.uses_tokens else scan
    return PatientExamples("patient", inputs, torch.tensor([1]))


def _site_model(arm: _Arm, noise: float, inside: Tensor, seed: int) -> SiteModel:
    dense = arm.encoder == "dense"
    groups = (
        {"shared": ["*"]}
        if dense
        else default_groups("smrnet", "off", arm.encoder).model_dump(mode="json")  # type: ignore[arg-type]
    )
    private = {"mode": "local", "noise_multiplier": noise}
    plan = FederationPlan.parse(
        {
            "name": "audit by gradient inversion",
            "groups": groups,
            "privacy": private if arm.private else {"mode": "none"},
            "training": {"rounds": 1, "learning_rate": 0.4},
            "adaptation": {"site_norm": "off", "personalise": "never"},
            "federation": {"sites": [{"name": SITE, "declared_patients": 45}]},
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if dense:
            return SiteModel(_Dense(inside), plan)
        model = SMRNet(SMRNetConfig(width=_WIDTH, site_norm="off"), *_octants(inside))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not parameter.any() and name.startswith("reasoner."):
                    parameter.normal_(0, _START)
    return SiteModel(model, plan)


def _octants(inside: Tensor) -> tuple[Tensor, Tensor]:
    """Eight regions of the brain, each a neighbour of the next."""
    labels = torch.ones(inside.shape, dtype=torch.long)
    for axis, value in enumerate((1, 2, 4)):
        index = torch.arange(inside.shape[axis]) >= inside.shape[axis] // 2
        shape = [1, 1, 1]
        shape[axis] = -1
        labels = labels + value * index.view(shape)
    ring = torch.roll(torch.eye(8), 1, 1)
    return labels * inside, ring + ring.T


class _Dense(nn.Module):
    """A model that is known to leak: every row of its first gradient is the image (control)."""

    def __init__(self, inside: Tensor) -> None:
        super().__init__()
        self.first = nn.Linear(int(inside.sum()), _HIDDEN)
        self.last = nn.Linear(_HIDDEN, 3)
        self.inside = inside

    def forward(self, x: Tensor) -> Logits:
        """``(B, 1, D, H, W)`` to logits ``(B, 3)``."""
        return Logits(self.last(torch.tanh(self.first(x[:, 0][:, self.inside]))))
