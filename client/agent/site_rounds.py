"""Site parameters that move between rounds: FedBN-like training without privacy, and only that."""

from __future__ import annotations

import re
from pathlib import Path

from client.agent.durable import write_durably
from client.training.site_model import SiteModel
from shared_model.protocol.arrays import decode_arrays, encode_arrays

_NAME = re.compile(r"site-(\d{7})\.safetensors")


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
