"""What a site keeps between rounds for the plan's aggregation: its own model, its control variate.

Both were computed from noised steps only, so what they steer is as private as those; neither
leaves. A round that crashed and is trained again starts from what it started from the first time.
"""

from __future__ import annotations

import re
from pathlib import Path

from client.agent.durable import write_durably
from client.training.data_free import SiteTerms
from client.training.rounds import TrainedRound
from shared_model.aggregation.control_wire import CommonControl
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, decode_arrays, encode_arrays

_OWN, _CONTROL = "own", "control"


def restore_terms(
    folder: Path, plan: FederationPlan, site: str, round_number: int, control: CommonControl | None
) -> SiteTerms:
    """What the site starts a round with; ``control`` is what the instruction carries.

    The own model is that of the last round before this one, whether or not its update counted: it
    is the hospital's. The own control is that of the newest round that *counted*, as the
    instruction says: the common one holds just that update, and a difference between the two would
    stay for ever. Raises SMR-E346 when it is gone.
    """
    if plan.aggregation.multi_task_lambda is not None:
        return SiteTerms(own=own_model(folder, round_number))
    if control is None:
        return SiteTerms()
    counted = control.counted.get(site, 0)
    if not counted:
        return SiteTerms(common_control=control.values)
    path = _path(folder, _CONTROL, counted)
    if not path.exists():
        raise SmrfedError(
            "SMR-E346",
            f"this site's control variate of round {counted} is gone",
            expected=path,
            found=f"rounds {_stored(folder, _CONTROL)}",
            remedy="restore the state folder from a backup, or take part in a new run",
        )
    _drop(folder, _CONTROL, before=counted)
    return SiteTerms(None, decode_arrays(path.read_bytes()), control.values)


def store_terms(folder: Path, trained: TrainedRound, round_number: int) -> None:
    """Keep what a round left, before its answer is stored; a repeated round replaces it.

    Of own models this and the one before; of controls all that may still be said to count.
    """
    for kind, arrays in ((_OWN, trained.own), (_CONTROL, trained.own_control)):
        if arrays:
            write_durably(_path(folder, kind, round_number), encode_arrays(arrays))
    _drop(folder, _OWN, before=round_number - 1)


def own_model(folder: Path, before_round: int) -> Arrays | None:
    """The site's own copy of the shared parameters after its last round before ``before_round``."""
    rounds = [number for number in _stored(folder, _OWN) if number < before_round]
    return decode_arrays(_path(folder, _OWN, max(rounds)).read_bytes()) if rounds else None


def _drop(folder: Path, kind: str, *, before: int) -> None:
    """Forget what is older than ``before``, but never the newest of all that is older or equal."""
    old = [number for number in _stored(folder, kind) if number <= before]
    for number in old[:-1]:
        _path(folder, kind, number).unlink()


def _stored(folder: Path, kind: str) -> list[int]:
    pattern = re.compile(rf"{kind}-(\d{{7}})\.safetensors")
    matches = (pattern.fullmatch(path.name) for path in folder.glob(f"{kind}-*.safetensors"))
    return sorted(int(match[1]) for match in matches if match)


def _path(folder: Path, kind: str, number: int) -> Path:
    return folder / f"{kind}-{number:07d}.safetensors"
