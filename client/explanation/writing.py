"""The explanation of one scan as a folder: whole or not at all, and for its owner alone."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from client.agent.durable import make_private_folder, sync_folder
from client.agent.site_data import training_device
from client.agent.state import StateFolder
from client.config import SiteConfig
from client.evaluation.held_model import HeldModel
from client.explanation.findings import Findings, explain_scan, require_explainable
from client.explanation.nifti_files import encode
from client.explanation.overlay import overlay
from client.explanation.page import explanation_page
from client.explanation.pdf import explanation_pdf
from client.explanation.scan_choice import choose_scan
from client.explanation.statements import Subject
from client.training.site_model import SiteModel
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.explanation.figures import shipped_figures
from shared_model.explanation.norms import shipped_norms
from shared_model.plan import FederationPlan

PAGE, PDF, NOTICE = "explanation.html", "explanation.pdf", "MUST_NOT_LEAVE.txt"
_NOTICE = (
    "Nothing in this folder may leave the hospital: it shows one person's scan and what a model\n"
    "said about it. It is no diagnosis.\n"
)


@dataclass(frozen=True)
class Asked:
    """What a person asked for: scan, class (none: the predicted one), and what is known."""

    scan: str
    target: str | None = None
    age: float | None = None
    sex: str | None = None


@dataclass(frozen=True)
class Explained:
    """Where everything lies, and the findings."""

    folder: Path
    findings: Findings

    @property
    def page(self) -> Path:
        """The page for a browser."""
        return self.folder / PAGE


def explain_at_site(
    config: SiteConfig,
    plan: FederationPlan,
    held: HeldModel,
    asked: Asked,
    command: str,
    progress: Callable[[str], None],
) -> Explained:
    """Explain and write below ``state_dir/explanations/MODEL``; nothing of it leaves.

    The folder is named by the scan's voxels and the class, not by the person; a second call
    replaces it. Raises SMR-E480 to E485, the model's SMR-E330 and the archive's SMR-E2xx.
    """
    target = _target(plan, asked.target)
    progress("model")
    atlas = load_atlas(plan.atlas, plan.input.grid)
    device = training_device(config.device)
    model = SiteModel.build(plan, atlas, config.weights_folders, device)
    require_explainable(model)
    model.load_shared(held.shared)
    if held.site is not None:
        model.load_own(held.site)
    progress("scan")
    scan = choose_scan(config, plan, model, asked.scan, asked.age, asked.sex)
    findings = explain_scan(model, atlas, scan, target, progress)
    progress("files")
    label = plan.task.labels[findings.target]
    parent = StateFolder(config.state_dir).explanations / held.name
    folder = parent / f"{scan.voxels_sha256[:12]}-{label}"
    overlays = {
        one.method: overlay(scan.volume, one.voxels, plan.input.grid) for one in findings.relevance
    }
    subject = Subject(
        scan.title, held.name, held.sha256, held.site is not None, command, scan.age, scan.sex
    )
    study, reference = shipped_figures(), shipped_norms().reference
    grid = plan.input.grid
    page = explanation_page(subject, findings, overlays, atlas, grid, study, reference)
    files = {
        NOTICE: _NOTICE.encode(),
        PAGE: page.encode(),
        PDF: explanation_pdf(subject, findings, overlays, atlas, study, reference),
        "regions.csv": _regions(findings),
        "edges.csv": _table([asdict(edge) for edge in findings.edges], ("first", "second")),
        "volumes.csv": _volumes(findings, atlas),
        "explanation.json": _document(findings, held, command),
        "scan.nii.gz": encode(scan.volume, plan.input.grid),
    }
    for one in findings.relevance:
        files[f"{one.method}.nii.gz"] = encode(one.voxels, plan.input.grid)
        files[f"{one.method}.png"] = overlays[one.method].png
    _replace(folder, files)
    return Explained(folder, findings)


def _target(plan: FederationPlan, label: str | None) -> int | None:
    if label is None:
        return None
    if label not in plan.task.labels:
        raise SmrfedError(
            "SMR-E484",
            f"the plan has no class {label!r}",
            expected=plan.task.labels,
            found=label,
            remedy="name one of the plan's classes, or leave --class out",
        )
    return plan.task.labels.index(label)


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with these files in place of the old one; before that, nothing is seen."""
    try:
        make_private_folder(folder.parent)
        made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
        try:
            for name, content in files.items():
                descriptor = os.open(made / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        sync_folder(folder.parent)
    except OSError as error:
        raise SmrfedError(
            "SMR-E485",
            "the explanation cannot be written",
            expected=f"a folder {folder.parent} that this account can write, with some room",
            found=error,
            remedy="make room or mend the folder's permissions, then run the command again",
        ) from None


def _regions(findings: Findings) -> bytes:
    share = findings.volumes.percentiles()
    rows = []
    for row in findings.regions:
        line = asdict(row)
        line["volume_percentile"] = None if share is None else round(share[line["index"]], 1)
        rows.append(line)
    return _table(rows, ())


def _volumes(findings: Findings, atlas: Atlas) -> bytes:
    found = findings.volumes
    return _table(
        [
            {
                "region": name,
                "ml": round(float(found.ml[i]), 4),
                "z": None if found.z is None else round(float(found.z[i]), 3),
            }
            for i, name in enumerate(atlas.names)
        ],
        (),
    )


def _table(rows: Sequence[Mapping[str, object]], header: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, tuple(rows[0]) if rows else header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _document(findings: Findings, held: HeldModel, command: str) -> bytes:
    content = {
        "command": command,
        "model": held.name,
        "model_sha256": held.sha256,
        "labels": list(findings.labels),
        "explained_class": findings.labels[findings.target],
        "certainty": asdict(findings.certainty),
        "methods": [one.method for one in findings.relevance],
        "left_out": list(findings.left_out),
        "top_regions": list(findings.drove(10)),
        "slice_attention": {k: v.tolist() for k, v in findings.slice_attention.items()},
        "meaning": "regions that drove this model's output; no diagnosis",
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
