"""Site parameters that move between rounds: kept at the hospital, found again after a crash.

They train with noise (``personalise = "private"``), are set from released moments
(``site_moments`` ``shift`` or ``affine``), or belong to FedBN-like training without privacy. They
never leave.
"""

from __future__ import annotations

import re
from pathlib import Path

from client.agent.durable import write_durably
from client.privacy.composition import site_moves_in_rounds
from client.training.site_model import SiteModel
from client.training.site_shift import shift_site
from shared_model.adaptation.wire import Carried
from shared_model.protocol.arrays import decode_arrays, encode_arrays

_NAME = re.compile(r"site-(\d{7})\.safetensors")


def place_site(
    folder: Path,
    model: SiteModel,
    site: str,
    round_number: int,
    carried: Carried | None,
    *,
    trains: bool,
) -> None:
    """Set the site parameters as a question of this round finds them.

    ``model`` holds the shared parameters of the question. Where the plan shifts the residual, a
    release of moments counts once, whichever question brings it first. ``trains``: the round has
    not changed them yet.
    """
    plan = model.plan
    if not site_moves_in_rounds(plan):
        # What was fitted to patients without noise must not steer, or show in, what leaves.
        model.reset_site()
        return
    before = round_number if trains else round_number + 1
    if plan.adaptation.moments_set_the_residual and carried is not None:
        number = carried.after_round + 1
        if max(_stored(folder), default=0) < number:
            restore_site(folder, model, number)
            shift_site(model, site, carried.moments(plan))
            store_site(folder, model, number)
        before = max(before, number + 1)
    restore_site(folder, model, before)


def restore_site(folder: Path, model: SiteModel, before_round: int) -> None:
    """Set the site parameters to those of the last round before ``before_round``.

    Their public values when there is none. A round that crashed and is trained again starts where
    it started the first time, so that its result has the same bits.
    """
    rounds = [number for number in _stored(folder) if number < before_round]
    if rounds:
        model.load_site(decode_arrays(_path(folder, max(rounds)).read_bytes()))
    else:
        model.reset_site()


def store_site(folder: Path, model: SiteModel, round_number: int) -> None:
    """Keep the site parameters of a round and of the one before it."""
    write_durably(_path(folder, round_number), encode_arrays(model.site_arrays()))
    for number in sorted(_stored(folder))[:-2]:
        _path(folder, number).unlink()


def _stored(folder: Path) -> list[int]:
    matches = (_NAME.fullmatch(path.name) for path in folder.glob("site-*.safetensors"))
    return [int(match[1]) for match in matches if match]


def _path(folder: Path, round_number: int) -> Path:
    return folder / f"site-{round_number:07d}.safetensors"
