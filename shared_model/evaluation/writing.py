"""All files of one evaluation in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from shared_model.errors import SmrfedError
from shared_model.evaluation.flat import document_csv
from shared_model.evaluation.model_card import ModelFacts, model_card
from shared_model.evaluation.page import evaluation_page
from shared_model.evaluation.results import EvaluationDocument
from shared_model.evaluation.table_file import write_text


@dataclass(frozen=True)
class Written:
    """Where the files of an evaluation lie; no card of what must stay in its hospital."""

    page: Path
    json: Path
    csv: Path
    card: Path | None


def write_evaluation(
    document: EvaluationDocument, folder: Path, model: ModelFacts | None = None
) -> Written:
    """Write ``evaluation.html``, ``.json``, ``.csv`` and ``model_card.md``; raises SMR-E617."""
    written = Written(
        folder / "evaluation.html",
        folder / "evaluation.json",
        folder / "evaluation.csv",
        None if document.scope == "stays" else folder / "model_card.md",
    )
    write_text(written.json, document.model_dump_json(indent=1) + "\n")
    write_text(written.csv, document_csv(document))
    if written.card is not None:
        write_text(written.card, model_card(document, model))
    write_text(written.page, evaluation_page(document))
    return written


def read_evaluation(path: Path) -> EvaluationDocument:
    """Read ``evaluation.json``; raises SMR-E618 where it is missing or something else."""
    try:
        return EvaluationDocument.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SmrfedError(
            "SMR-E618",
            f"cannot read the evaluation {path}",
            expected="the evaluation.json of an evaluation, format 1",
            found=error,
            remedy="name that file, or evaluate again",
        ) from None
