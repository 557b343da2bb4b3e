"""Making an invitation: into the federation, or into a run that goes on."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorFolder
from server.enrolment.additions import additions
from server.enrolment.authority import authority_sha256
from server.enrolment.registry import Invitation, Registry
from shared_model.enrolment.addendum import Addendum
from shared_model.enrolment.token import JoinToken
from shared_model.errors import SmrfedError
from shared_model.plan import SiteEntry
from shared_model.protocol.keys import load_signing_key


@dataclass(frozen=True)
class Invited:
    """A token to hand over, and the plan that the hospital will be shown, if it is for a run."""

    token: JoinToken
    plan_digest: str | None


def invite(
    folder: CoordinatorFolder,
    site: str,
    *,
    valid_s: int,
    run: str | None = None,
    patients: int | None = None,
    replace: bool = False,
) -> Invited:
    """Make a token for a hospital.

    With ``run`` (a name in ``folder.runs``) and ``patients`` (public size of its training set) the
    hospital also comes to that run. ``replace``: for a hospital that is enrolled and lost its keys.
    Raises SMR-E593 (who cannot be invited), SMR-E594 (the run takes no addition) and SMR-E59x.
    """
    registry = Registry(folder.registry)
    known = registry.site(site)
    if known is not None and known.state == "enrolled" and run is None and not replace:
        raise _refused(
            f"site {site!r} is enrolled already",
            "a new hospital, a run, or --replace",
            "say --replace if the hospital lost its keys; it changes keys by itself with "
            "smrfed-site rotate-keys",
        )
    addendum, opened, digest = None, None, None
    if run is not None:
        opened = RunDirectory.open(folder.runs / run)
        addendum = _addendum(folder, opened, site, patients)
        digest = opened.plan.digest if addendum is None else addendum.digest
    try:
        token = JoinToken.issue(
            folder.config.public_address, authority_sha256(folder), site, valid_s
        )
    except ValidationError:
        raise _refused(
            f"{site!r} cannot be a site's name",
            "a-z, 0-9 and hyphens, at most 31 characters",
            "choose another name",
        ) from None
    registry.invite(
        Invitation(
            secret_sha256=token.secret_sha256,
            site=site,
            expires_at=token.expires_at,
            run=None if opened is None else str(opened.path.resolve()),
            addendum=None if addendum is None else addendum.model_dump_json(exclude_none=True),
            replaces=replace,
            node_key=None,
            signing_key=None,
            withdrawn=False,
        )
    )
    return Invited(token, digest)


def _addendum(
    folder: CoordinatorFolder, run: RunDirectory, site: str, patients: int | None
) -> Addendum | None:
    """None for a site that the plan names already: there is nothing to add."""
    if run.finalised() is not None:
        raise _refused(
            f"the run {run.run_id} is over", "a run that goes on", "invite without --run"
        )
    if site in run.plan.weights:
        return None
    added = [addendum.site for addendum in additions(run) if addendum.site.name != site]
    if patients is None or patients < 1:
        raise _refused(
            f"the plan of {run.run_id} does not name {site!r}",
            "--patients: the public size of the hospital's training set",
            "ask the hospital for a number that it declares in public, and say it",
        )
    try:
        entry = SiteEntry(name=site, declared_patients=patients)
    except ValidationError:
        raise _refused(
            f"{site!r} cannot be a site's name",
            "a-z, 0-9 and hyphens, at most 31 characters",
            "choose another name",
        ) from None
    return Addendum.of(run.run_id, run.plan, (*added, entry), load_signing_key(folder.signing_key))


def _refused(what: str, expected: str, remedy: str) -> SmrfedError:
    return SmrfedError("SMR-E593", what, expected=expected, remedy=remedy)
