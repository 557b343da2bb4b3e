"""The report's JSON on disk: written whole or not at all, read with a typed error."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from shared_model.errors import SmrfedError
from simulations.report.results import FederationReport


def write_report_json(report: FederationReport, path: Path) -> None:
    """Write the report as indented JSON, atomically; folders are made as needed."""
    write_text_atomically(path, report.model_dump_json(indent=1) + "\n")


def read_report_json(path: Path) -> FederationReport:
    """Read a report back.

    Raises:
        SmrfedError: SMR-E690 where the file is missing or is not a report of this format.
    """
    try:
        return FederationReport.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SmrfedError(
            "SMR-E690",
            f"cannot read the report {path}",
            found=error,
            expected="the JSON of one federation report, format 1",
            remedy="name the report.json of a finished run, or run the simulation again",
        ) from None


def write_text_atomically(path: Path, text: str) -> None:
    """Replace a file by this UTF-8 text in one step, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
