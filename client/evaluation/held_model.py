"""Models on a hospital's disk: of its own runs, or exported by a coordinator; no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.config import SiteConfig
from shared_model.errors import SmrfedError
from shared_model.exported import MODEL, ExportedModel
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, body_digest, decode_arrays

# As client.agent.final_model names them; that module needs torch, and a test compares.
GLOBAL, SITE, EVALUATION = "global.safetensors", "site.safetensors", "evaluation.json"


@dataclass(frozen=True)
class HeldModel:
    """Parameters on this hospital's disk.

    Attributes:
        name: of the run, or of the file.
        shared: the released parameters.
        sha256: digest of their file.
        site: the hospital's own parameters, if it has any.
        plan_digest: of the plan that made them, where a record says so.
        plan: that plan itself, where the model came with it.
    """

    name: str
    shared: Arrays
    sha256: str
    site: Arrays | None
    plan_digest: str | None
    plan: FederationPlan | None = None


def plan_of(config: SiteConfig, held: HeldModel, digest: str | None) -> FederationPlan:
    """The plan that came with a model, else the accepted one that is asked for or made it.

    Of a model of unknown origin the newest accepted plan. Raises SMR-E409 and SMR-E406.
    """
    if held.plan is not None:
        return held.plan
    plans = AcceptedPlans(StateFolder(config.state_dir).plans)
    return plans.chosen(digest or held.plan_digest).plan


def find_model(config: SiteConfig, name: str) -> HeldModel:
    """A run of this site, or the path of an exported folder or safetensors file.

    Raises SMR-E619, and of an exported folder SMR-E642 to E645.
    """
    state = StateFolder(config.state_dir)
    path = Path(name)
    if (path / MODEL).is_file():
        exported = ExportedModel.read(path)
        return HeldModel(
            path.resolve().name,
            exported.arrays,
            exported.sha256,
            None,
            exported.plan.digest,
            exported.plan,
        )
    if path.suffix == ".safetensors":
        return _read(path.stem, path, None, None)
    folder = state.model(name)
    if not name or "/" in name or name in (".", "..") or not (folder / GLOBAL).exists():
        runs = sorted(p.parent.name for p in state.model("x").parent.glob(f"*/{GLOBAL}"))
        raise SmrfedError(
            "SMR-E619",
            f"this site holds no model {name!r}",
            expected=f"a finished run ({', '.join(runs) or 'there is none yet'}), or the path of "
            "an exported folder or safetensors file",
            found=name,
            remedy="wait until the run is finalised, or name a file that was exported",
        )
    return _read(name, folder / GLOBAL, folder / SITE, folder / EVALUATION)


def _read(name: str, shared: Path, site: Path | None, record: Path | None) -> HeldModel:
    try:
        body = shared.read_bytes()
        own = site.read_bytes() if site is not None and site.exists() else None
        known = json.loads(record.read_bytes()) if record is not None and record.exists() else {}
    except (OSError, ValueError) as error:
        raise SmrfedError(
            "SMR-E619",
            f"the model {name!r} cannot be read",
            expected="a safetensors file of float32 arrays",
            found=error,
            remedy="restore the file, or export the model again",
        ) from None
    return HeldModel(
        name,
        decode_arrays(body),
        body_digest(body),
        None if own is None else decode_arrays(own),
        known.get("plan_digest"),
    )
