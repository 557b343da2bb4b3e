"""Policy, plan and coordinator: what the hospital allows, and whom it obeys."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from client.egress.policy import SitePolicy
from client.egress.release_hours import opens_at
from client.preflight.site import CheckedSite
from shared_model.preflight.checks import Note, NotLookedAt
from shared_model.protocol.keys import fingerprint, load_or_create_signing_key, load_public_key


def check_policy(site: CheckedSite) -> str:
    """The policy by itself and against the plan; raises SMR-E304, E310 to E315, E362, E364."""
    policy = SitePolicy.load(site.config.policy)
    if site.plan is not None:
        policy.admit_plan(site.plan)
    return (
        f"modes {', '.join(policy.modes)}; epsilon up to {policy.max_epsilon:g} at delta "
        f"{policy.max_delta:g}; {policy.max_shared_parameters:,} numbers per reply"
    )


def check_release_hours(site: CheckedSite, now: datetime | None = None) -> str:
    """When data may leave next, in the hospital's own time zone. Raises SMR-E310."""
    windows = SitePolicy.load(site.config.policy).release_hours
    if not windows:
        return "data may leave at any hour"
    now = now or datetime.now(UTC)
    opening = opens_at(windows, now)
    assert opening is not None  # the policy's own checks exclude it
    zone = ZoneInfo(windows[0].timezone)
    here = f"it is {now.astimezone(zone):%a %H:%M} in {zone.key} by this clock"
    if opening == now:
        return f"open now; {here}"
    return f"closed until {opening.astimezone(zone):%a %Y-%m-%d %H:%M}; {here}"


def check_coordinator(site: CheckedSite) -> str:
    """The coordinator's signing key; raises SMR-E118 and SMR-E363."""
    missing = not site.config.coordinator_key.exists()
    if missing and site.connection is None and site.plan is None:
        return Note("comes with smrfed-site join TOKEN")
    found = fingerprint(load_public_key(site.config.coordinator_key))
    SitePolicy.load(site.config.policy).admit_coordinator(found)
    connection = site.connection
    if connection is not None and connection.coordinator != found:
        return Note(f"{found}; the hospital joined one with {connection.coordinator}")
    return found


def check_site_key(site: CheckedSite) -> str:
    """The hospital's own signing key, made where there is none; raises SMR-E118."""
    return fingerprint(load_or_create_signing_key(site.state.key).public_key())


def check_plan(site: CheckedSite) -> str:
    """The plan that this hospital takes part in; raises what is wrong with it or its file."""
    plan = site.require_plan()
    if plan is None:
        return Note("none accepted yet: smrfed-site accept PLAN")
    entry = plan.site(site.config.name)
    return f"{plan.name} ({plan.digest[:12]}), {entry.declared_patients} declared patients"


def check_atlas(site: CheckedSite) -> str:
    """The plan's atlas on its grid; needs the training stack."""
    if site.plan is None:
        raise NotLookedAt("no plan")
    try:
        from shared_model.atlas.select import load_atlas
    except ImportError as error:
        raise NotLookedAt(f"{error.name or 'the training stack'} is not installed here") from None
    plan = site.plan
    return f"{plan.atlas.name}, {len(load_atlas(plan.atlas, plan.input.grid).names)} regions"
