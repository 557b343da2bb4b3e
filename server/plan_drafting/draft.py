"""``smrfed-coordinator plan new``: a plan that runs as it is, with comments, to be changed."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Literal

from server.plan_drafting.other_model import with_model
from server.plan_drafting.secure_sum import require_keys, secure_sum
from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.privacy.plan_cost import calibrate_plan_noise
from shared_model.privacy.section import SUMMED
from shared_model.public_weights import PACKAGED

Scans = Literal["native", "aligned"]
USUAL_MODEL = "smrnet"

#: Room in the budget for rounds that a crash makes a hospital train twice.
SPARE_ROUNDS = 2
_CARD = "smrnet-w8-synthetic-morphometry.json"


def draft_plan(
    name: str,
    sites: Mapping[str, int],
    *,
    seed: int,
    mode: PrivacyMode = "local",
    epsilon: float = 8.0,
    rounds: int = 30,
    every: int = 0,
    scans: Scans = "native",
    labels: Sequence[str] = ("CN", "MCI", "AD"),
    model: str = USUAL_MODEL,
    signing_keys: Mapping[str, str] | None = None,
) -> str:
    """A commented plan in TOML for SMR-Net with the packaged public weights.

    Any other ``model`` takes its sections from the registry, which needs torch (SMR-E558).

    The noise is computed so that all rounds, :data:`SPARE_ROUNDS` repeated ones, and all
    evaluations (after ``every`` rounds; 0: none) stay within ``epsilon``. ``sites`` are public
    sizes of the training sets. Modes ``distributed`` and ``central`` take every site's
    ``signing_keys`` (64 hexadecimal digits). Raises
    SMR-E102 for values that a plan cannot have, SMR-E301 for an epsilon that no noise reaches,
    SMR-E566 for a site without a key.
    """
    keys = require_keys(sites, signing_keys or {}) if mode in SUMMED else {}

    def text(noise: float, releases: float) -> str:
        usual = _text(
            name, sites, seed, mode, epsilon, rounds, every, scans, noise, releases, labels, keys
        )
        return usual if model == USUAL_MODEL else with_model(usual, model)

    drafted = text(0.0, 0.0)
    if mode != "none":
        without = tomllib.loads(_without_noise(drafted))
        bare = FederationPlan.parse(without, source="that was drafted")
        drafted = text(
            calibrate_plan_noise(bare, "train", spare_rounds=SPARE_ROUNDS),
            calibrate_plan_noise(bare, "evaluate"),
        )
    FederationPlan.parse(tomllib.loads(drafted), source="that was drafted")
    return drafted


def _without_noise(text: str) -> str:
    """The same plan before its noise is known; calibration looks at everything but the noise."""
    return text.replace("noise_multiplier = 0.0", "noise_multiplier = 1.0")


def _text(
    name: str,
    sites: Mapping[str, int],
    seed: int,
    mode: PrivacyMode,
    epsilon: float,
    rounds: int,
    every: int,
    scans: Scans,
    noise: float,
    release_noise: float,
    labels: Sequence[str],
    keys: Mapping[str, str],
) -> str:
    card = json.loads((PACKAGED / _CARD).read_text("utf-8"))
    config = ", ".join(f"{key} = {value}" for key, value in card["config"].items())
    source = "native" if scans == "native" else "mni152"
    quorum = max(min(2, len(sites)), len(sites) - 1)
    lines = "\n".join(
        f'[[federation.sites]]\nname = "{site}"\ndeclared_patients = {count}\n'
        + (f'signing_key = "{keys[site]}"\n' if site in keys else "")
        for site, count in sites.items()
    )
    summed = secure_sum(len(sites), mode) if mode in SUMMED else ""
    return _TEMPLATE.format(
        name=json.dumps(name),
        seed=seed,
        labels=json.dumps(list(labels)),
        model=card["model"],
        config=config,
        weights=card["sha256"],
        atlas=card["atlas_sha256"],
        source=source,
        mode=mode,
        epsilon=float(epsilon),
        noise=math.ceil(noise * 1e4) / 1e4,
        rounds=rounds,
        rate=0.2 if mode == "none" else 0.4,
        quorum=1 if summed else quorum,
        steps=1 if summed else 2,
        summed=summed,
        weighting=_BY_PATIENTS if summed else "",
        sites=lines,
        evaluation=_evaluation(every, release_noise),
    )


def _evaluation(every: int, noise: float) -> str:
    text = _EVALUATION if every else _NO_EVALUATION
    return text.format(every=every, noise=math.ceil(noise * 1e4) / 1e4)


_BY_PATIENTS = """\
# In one sum over all patients every patient counts the same.
weighting = "declared_patients"
"""

_NO_EVALUATION = """\
# Test patients are never trained on. With release_every = 5 noised figures of them would leave
# every five rounds, where the hospitals' policies say allow_evaluation = true.
[evaluation]
test_fraction = 0.25
"""

_EVALUATION = """\
# Noised figures of the test patients, whom nobody trains on, leave every so many rounds; the
# hospitals' policies must say allow_evaluation = true.
[evaluation]
test_fraction = 0.25
release_every = {every}
release_noise_multiplier = {noise}
"""

_TEMPLATE = """\
# What all parties agree on; every field: docs/plan.md. Once a hospital has accepted it, a change is
# another plan. `smrfed-coordinator plan show` prints the digest that everybody compares.
format = 1
name = {name}

# Public: decides who trains and who tests, and the initial weights.
seed = {seed}

[task]
labels = {labels}

[model]
name = "{model}"
config = {{ {config} }}

# Public initial weights of the encoder, installed with smrfed.
weights_sha256 = "{weights}"

[atlas]
name = "smrfed-seeded"
sha256 = "{atlas}"

# "native": scans as acquired; "mni152": stripped and aligned already.
[input.preparation]
source = "{source}"

# The encoder is public and never sent back; the reasoner is trained; its residuals stay at a site.
[groups]
frozen = ["encoder.*", "standardiser.*"]
shared = ["reasoner.*"]
site = ["reasoner.*.site_scale", "reasoner.*.site_shift"]

# epsilon is a patient's budget, delta well below one over the number of patients. The noise was
# computed for these rounds and local_steps: with others, write a new plan with `plan new`.
[privacy]
mode = "{mode}"
epsilon = {epsilon}
delta = 1e-5
noise_multiplier = {noise}

[training]
rounds = {rounds}
local_steps = {steps}
learning_rate = {rate}

{summed}{evaluation}
# min_sites is the quorum of a round; declared_patients are public sizes of the training sets.
[federation]
min_sites = {quorum}
round_deadline_s = 3600.0
{weighting}
{sites}"""
