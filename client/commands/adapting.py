"""``smrfed-site adapt``: a released model on scans of a hospital that took no part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.commands.display import AsJson, err, out, print_facts, print_json
from shared_model.errors import SmrfedError

ModelFolder = Annotated[
    Path, typer.Argument(help="folder that smrfed-coordinator export wrote", metavar="MODEL")
]
Archive = Annotated[
    Path, typer.Option("--archive", help="BIDS archive; only read, no diagnosis is looked at")
]
Out = Annotated[
    Path, typer.Option("--out", help="where results and prepared scans are kept; mode 0700")
]
Recentre = Annotated[
    bool,
    typer.Option(
        "--recentre",
        help="declare that diagnoses are as frequent here as in training: all of the difference is "
        "then the scanner. Wrong declarations do harm",
    ),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="folder with public initial weights")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda[:N]")]


def adapt(
    model: ModelFolder,
    archive: Archive,
    folder: Out = Path("adapted"),
    recentre: Recentre = False,
    weights: Weights = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Adapt a released model to this hospital's scans without labels; nothing leaves.

    Estimates what the scanner adds to the model's scores and how frequent the diagnoses are here,
    and writes predictions and estimate to files that must not leave the hospital.
    """
    from shared_model.exported import ADAPTATION, ExportedModel

    released = ExportedModel.read(model)
    if released.moments is None:
        raise SmrfedError(
            "SMR-E390",
            f"the model in {model} cannot be adapted",
            expected=f"{ADAPTATION}: moments of the scores at the hospitals that trained it",
            found="no such file",
            remedy="ask the coordinator for a run with calibration.unseen_sites = true, or use the "
            "model as it is",
        )
    with err.status("loading the training stack"):
        from client.adaptation.local_files import state_of, unwritable, write_results
        from client.adaptation.unlabelled import read_unlabelled
        from client.agent.durable import make_private_folder
        from client.agent.site_data import training_device
        from shared_model.adaptation.adapt import adapt as adapt_scores
    try:
        make_private_folder(folder)
    except OSError as error:
        raise unwritable(folder, error) from None
    with err.status("preparing scans") as status:
        patients = read_unlabelled(
            released,
            archive,
            folder,
            training_device(device),
            () if weights is None else (weights,),
            lambda done, total: status.update(f"preparing scans: {done} of {total}"),
        )
    source = released.moments.source
    found = adapt_scores(
        patients.probabilities,
        patients.deviation,
        source,
        released.moments.scores_radius,
        "recentre" if recentre else "em",
    )
    predictions, state = write_results(folder, released, patients, found, source)
    facts = state_of(released, found, source) | {
        "excluded": list(patients.excluded),
        "predictions": str(predictions),
        "state": str(state),
    }
    if as_json:
        print_json(facts)
        return
    labels = released.plan.task.labels
    shares = zip(labels, found.estimate.prevalence, source.prevalence, strict=True)
    print_facts(
        {
            "model": f"{released.plan.name} ({released.sha256[:12]})",
            "patients": f"{found.estimate.scans}, {sum(patients.scans)} scans"
            + (f"; {len(patients.excluded)} excluded" if patients.excluded else ""),
            "prevalence": ", ".join(f"{c} {pi:.2f} (training {t:.2f})" for c, pi, t in shares)
            + (", declared by --recentre" if recentre else ", estimated"),
            "offset": f"{found.offset_sd:.2f} standard deviations of the source's scores"
            if found.offset_sd
            else f"none that these scans show: evidence {found.evidence:.1f}, "
            f"{found.needed:.1f} needed",
            "distance": f"median {facts['median_distance']:.2f}, limit {found.tau:.2f}; "
            f"{facts['beyond']} patients beyond it",
            "predictions": str(predictions),
            "state": str(state),
        }
    )
    out.print("Both files are of this hospital's patients: they must not leave it.")
