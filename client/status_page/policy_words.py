"""The hospital's policy as sentences."""

from __future__ import annotations

from client.egress.policy import SitePolicy


def policy_words(policy: SitePolicy) -> list[str]:
    """What this hospital allows, one sentence each."""
    modes = " and ".join(f"'{mode}'" for mode in policy.modes)
    words = [
        f"Plans in privacy mode {modes} may train here, up to epsilon "
        f"{policy.plan_epsilon_cap:g} for one plan and {policy.max_epsilon:g} over everything, at "
        f"delta {policy.max_delta:g} at most.",
    ]
    may = {
        "counts on test patients": policy.allow_evaluation,
        "sums for calibration": policy.allow_calibration,
        "moments of embeddings": policy.allow_moments,
        "metrics in mode 'none'": policy.allow_metrics,
    }
    yes = [name for name, allowed in may.items() if allowed]
    no = [name for name, allowed in may.items() if not allowed]
    words.append(
        f"Updates of at most {policy.max_shared_parameters:,} numbers and "
        f"{policy.max_reply_bytes:,} bytes may leave"
        + (f"; so may {', '.join(yes)}" if yes else "")
        + (f"; nothing else: no {', no '.join(no)}." if no else ".")
    )
    if policy.release_hours:
        hours = "; ".join(window.text() for window in policy.release_hours)
        words.append(f"Data may leave only in these hours: {hours}.")
    else:
        words.append("Data may leave at any hour.")
    if policy.max_releases_per_day is not None:
        words.append(f"At most {policy.max_releases_per_day:,} replies leave in any 24 hours.")
    if policy.max_bytes_per_day is not None:
        words.append(f"At most {policy.max_bytes_per_day:,} bytes leave in any 24 hours.")
    if policy.coordinators is not None:
        words.append(f"Only these coordinators may ask: {', '.join(policy.coordinators)}.")
    if policy.allowed_plans is not None:
        words.append(f"Only {len(policy.allowed_plans)} plans may be accepted, by their digests.")
    return words
