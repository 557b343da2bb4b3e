"""Hospitals that were added to a run: ``RUN/additions/SITE.json``, one signed addendum each."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from server.checkpoints.durable import replace_durably
from server.checkpoints.run_directory import RunDirectory
from shared_model.enrolment.addendum import Addendum, extended_plan
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan

_FOLDER = "additions"


def additions(run_dir: RunDirectory) -> tuple[Addendum, ...]:
    """The addenda of a run, in the order in which they were made; raises SMR-E594."""
    found = []
    for path in sorted((run_dir.path / _FOLDER).glob("[a-z0-9]*.json")):
        try:
            addendum = Addendum.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise _not_of_this_run(path, f"{type(error).__name__}: {error}"[:300]) from None
        if addendum.run_id != run_dir.run_id or path.stem != addendum.site.name:
            raise _not_of_this_run(path, f"{addendum.site.name} in run {addendum.run_id}")
        addendum.plan(run_dir.plan)
        found.append(addendum)
    return tuple(sorted(found, key=lambda addendum: (len(addendum.sites), addendum.site.name)))


def add(run_dir: RunDirectory, addendum: Addendum) -> None:
    """From the next round on the run asks the new site too; said twice, it changes nothing.

    The addendum must be of this run and plan (SMR-E594).
    """
    path = run_dir.path / _FOLDER / f"{addendum.site.name}.json"
    if addendum.run_id != run_dir.run_id:
        raise _not_of_this_run(path, addendum.run_id)
    addendum.plan(run_dir.plan)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_durably(path, addendum.model_dump_json(indent=1, exclude_none=True).encode())


def current_plan(run_dir: RunDirectory) -> FederationPlan:
    """The run's plan with every hospital that was added since; for who shows or aggregates."""
    added = tuple(addendum.site for addendum in additions(run_dir))
    return extended_plan(run_dir.plan, added) if added else run_dir.plan


def _not_of_this_run(path: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E594",
        f"the addendum {path} does not belong to this run",
        expected="the file of smrfed-coordinator invite SITE --run RUN, under the site's name",
        found=found,
        remedy="remove the file and invite the hospital again",
    )
