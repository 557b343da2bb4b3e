"""The released model of a run, ready to be carried to a hospital that took no part."""

from __future__ import annotations

from pathlib import Path

from server.checkpoints.durable import replace_durably
from server.checkpoints.run_directory import RunDirectory
from server.rounds.participation import participation
from server.rounds.releases import released, released_body
from shared_model.adaptation.model_moments import ModelMoments, model_moments
from shared_model.errors import SmrfedError
from shared_model.exported import ADAPTATION, exported_files
from shared_model.protocol.arrays import body_digest

#: Which hospitals counted in how many rounds, and whether one fell out.
PARTICIPATION = "participation.json"


def released_moments(run: RunDirectory) -> ModelMoments:
    """Moments of the released model, of which layer C makes use; raises SMR-E643 without any."""
    model, calibration = released(run)
    return model_moments(
        {} if calibration is None else calibration.arrays,
        run.plan,
        body_digest(model.body),
        None if calibration is None else calibration.offsets,
    )


def export_folder(run: RunDirectory, folder: Path) -> SmrfedError | None:
    """Write the newest model, its plan, who took part and, if any, its moments; raises OSError.

    Returns why the moments were left out, or None. A file of an older export never stays beside a
    new model.
    """
    reason, moments = None, None
    try:
        moments = released_moments(run)
    except SmrfedError as error:
        if error.code != "SMR-E643":
            raise
        reason = error
    folder.mkdir(parents=True, exist_ok=True)
    files = exported_files(run.plan, released_body(run), moments)
    files[PARTICIPATION] = participation(run).model_dump_json(indent=1).encode()
    if moments is None:
        (folder / ADAPTATION).unlink(missing_ok=True)
    for name, content in files.items():
        replace_durably(folder / name, content)
    return reason
