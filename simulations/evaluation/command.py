"""``smrfed-sim evaluate``: from tables of predictions to document, page, tables and model card."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shared_model.errors import SmrfedError
from shared_model.evaluation.beyond import Audit
from shared_model.evaluation.document import Beside, evaluate
from shared_model.evaluation.provenance import model_facts_of, privacy_of
from shared_model.evaluation.results import Provenance
from shared_model.evaluation.sentences import sentences
from shared_model.evaluation.side_tables import read_corrupted, read_embeddings
from shared_model.evaluation.table import PredictionTable
from shared_model.evaluation.table_file import read_csv
from shared_model.evaluation.writing import write_evaluation
from shared_model.plan import FederationPlan
from simulations.evaluation.run_folder import run_files

Tables = Annotated[
    list[Path],
    typer.Argument(
        help="one CSV per arm, named after it; several of one name are folds that left out one "
        "hospital each; or the folder of a run, with all that lies in it",
        metavar="PREDICTIONS.csv...|RUN",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="folder for the evaluation's files")]
Headline = Annotated[str | None, typer.Option("--headline", help="arm; default: the first")]
Alone = Annotated[
    str | None,
    typer.Option("--alone", help="arm where hospitals trained alone; default: alone, if given"),
]
Draws = Annotated[int, typer.Option("--draws", min=100, help="bootstrap draws of patients")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="of the draws")]
Title = Annotated[str, typer.Option("--title")]
TrainedOn = Annotated[
    Path | None,
    typer.Option("--trained-on", help="file with the training patients' names, one per line"),
]
Prevalence = Annotated[
    list[str] | None,
    typer.Option("--prevalence", help="NAME=0.8,0.15,0.05: another case mix; repeatable"),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="plan of the headline arm, for the statements")
]
Epsilon = Annotated[
    float | None, typer.Option("--epsilon", min=0, help="largest spent at any hospital")
]
Synthetic = Annotated[
    bool,
    typer.Option("--synthetic", help="every patient is simulated: nothing is suppressed twice"),
]
EmbeddingFiles = Annotated[
    list[Path] | None,
    typer.Option("--embeddings", help="ARM.csv, for the probe of the hospital; repeatable"),
]
CorruptedFiles = Annotated[
    list[Path] | None,
    typer.Option("--corrupted", help="ARM.csv of predictions on worse scans; repeatable"),
]
AuditFile = Annotated[
    Path | None, typer.Option("--audit", help="audit.json of smrfed-sim audit, for the attacks")
]
AsJson = Annotated[bool, typer.Option("--json", help="print the files' paths as JSON")]


def evaluate_command(
    tables: Tables,
    out: Out,
    headline: Headline = None,
    alone: Alone = None,
    draws: Draws = 2000,
    seed: Seed = 0,
    title: Title = "Evaluation",
    trained_on: TrainedOn = None,
    prevalence: Prevalence = None,
    plan: PlanFile = None,
    epsilon: Epsilon = None,
    synthetic: Synthetic = False,
    embeddings: EmbeddingFiles = None,
    corrupted: CorruptedFiles = None,
    audit: AuditFile = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate tables of predictions: all figures with intervals, comparisons, page, model card."""
    console = Console(stderr=as_json)
    agreed = None if plan is None else FederationPlan.load(plan)
    files = run_files(tables, embeddings or (), corrupted or (), trained_on)
    arms = read_arms(files.predictions)
    beside = Beside(
        {path.stem: read_embeddings(path) for path in files.embeddings},
        {path.stem: read_corrupted(path) for path in files.corrupted},
        None if audit is None else read_audit(audit),
    )
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=None)
        document = evaluate(
            arms,
            draws=draws,
            seed=seed,
            headline=headline,
            alone=alone,
            trained_on=None if files.trained_on is None else read_names(files.trained_on),
            prevalences=read_prevalences(prevalence),
            provenance=Provenance(
                command=_again(
                    tables,
                    out,
                    {
                        "headline": headline,
                        "alone": alone,
                        "draws": draws,
                        "seed": seed,
                        "title": title,
                        "trained-on": trained_on,
                        "plan": plan,
                        "epsilon": epsilon,
                        "audit": audit,
                    },
                    [f"--prevalence={one}" for one in prevalence or ()]
                    + [f"--embeddings={one}" for one in embeddings or ()]
                    + [f"--corrupted={one}" for one in corrupted or ()]
                    + (["--synthetic"] if synthetic else []),
                ),
                smrfed=version("smrfed"),
                plan_name=None if agreed is None else agreed.name,
                plan_digest=None if agreed is None else agreed.digest,
                synthetic=True if synthetic else None,
            ),
            privacy=None if agreed is None else privacy_of(agreed, epsilon),
            title=title,
            beside=beside,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    facts = None if agreed is None else model_facts_of(agreed, "not stated")
    written = write_evaluation(document, out, facts)
    if as_json:
        names = ("page", "json", "csv", "card")
        typer.echo(json.dumps({name: str(getattr(written, name)) for name in names}))
        return
    for one in sentences(document):
        console.print(f"{one.verdict:>10}  {one.text}", markup=False, highlight=False)
    console.print(f"look at {written.page}", soft_wrap=True, highlight=False)


def read_audit(path: Path) -> Audit:
    """The part of an ``audit.json`` that an evaluation shows; raises SMR-E628."""
    from simulations.audit.results import AuditReport
    from simulations.evaluation.beside import audit_of

    try:
        return audit_of(AuditReport.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError) as error:
        raise SmrfedError(
            "SMR-E628",
            f"cannot read the audit {path}",
            expected="the audit.json of smrfed-sim audit",
            found=error,
            remedy="name that file, or leave --audit out",
        ) from None


def read_arms(paths: Sequence[Path]) -> dict[str, PredictionTable]:
    """The table of every arm, by file name; folds of one arm are joined over their left-out sites.

    Raises SMR-E610 to E614.
    """
    files: dict[str, list[Path]] = {}
    for path in paths:
        files.setdefault(path.stem, []).append(path)
    return {
        key: read_csv(own[0])
        if len(own) == 1
        else PredictionTable.leave_one_site_out([read_csv(path) for path in own])
        for key, own in files.items()
    }


def read_names(path: Path) -> set[str]:
    """One name per line; raises SMR-E610."""
    try:
        return {line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise SmrfedError(
            "SMR-E610",
            f"cannot read the names of training patients: {path}",
            expected="UTF-8 text, one site/patient per line",
            found=error,
            remedy="name the trained_on.txt beside the predictions",
        ) from None


def read_prevalences(texts: Sequence[str] | None) -> dict[str, tuple[float, ...]] | None:
    """``NAME=0.8,0.15,0.05`` each; raises SMR-E616."""
    if not texts:
        return None
    out = {}
    for text in texts:
        name, _, shares = text.partition("=")
        try:
            out[name.strip()] = tuple(float(share) for share in shares.split(","))
        except ValueError:
            raise SmrfedError(
                "SMR-E616",
                f"the prevalence {text!r} is none",
                expected="NAME=0.8,0.15,0.05: one share per class, together one",
                found=shares or "no shares",
                remedy="write the shares with points, separated by commas",
            ) from None
    return out


def _again(
    tables: Sequence[Path], out: Path, options: Mapping[str, object], flags: Sequence[str]
) -> str:
    """What to type to make the same document again."""
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    words = ["smrfed-sim", "evaluate", *map(str, tables), f"--out={out}", *given, *flags]
    return shlex.join(words)
