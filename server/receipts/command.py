"""``smrfed-coordinator receipts``: every reply that came in, and a signed file for the sites."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from server.checkpoints.durable import replace_durably
from server.checkpoints.run_directory import RunDirectory
from server.enrolment.additions import current_plan
from server.flower.deployment import Deployment
from server.receipts.book import ReceiptBook, ReceivedLine
from server.run_path import RunPath
from shared_model.chain.links import GENESIS
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import load_signing_key
from shared_model.protocol.statement import Statement

Site = Annotated[str | None, typer.Option("--site", help="replies of this site only")]
Export = Annotated[
    Path | None, typer.Option("--export", help="write a signed statement for the sites")
]
Key = Annotated[
    Path | None,
    typer.Option("--key", help="the coordinator's signing key; default: that of the deployed run"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]

_out = Console()


def receipts(
    run_dir: RunPath,
    site: Site = None,
    export: Export = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show every reply that came in, accepted or not; verify that no receipt is missing."""
    run = RunDirectory.open(run_dir)
    read = ReceiptBook(run.path).read()
    shown = [line for line in read if site in (None, line.received.site)]
    if export is not None:
        _export(run, read, shown, site, export, key)
    if as_json:
        print(json.dumps([line.model_dump(mode="json") for line in shown]))
        return
    table = Table("no.", "time (UTC)", "site", "round", "bytes", "answer", "reply")
    for line in shown:
        received = line.received
        answer = "accepted" if received.accepted else f"[yellow]{received.code}[/yellow]"
        table.add_row(
            str(line.number),
            line.time[:19],
            escape(received.site if line.authentic else f"said to be {received.site}"),
            f"{received.round} {received.kind}",
            f"{line.bytes:,}",
            answer,
            received.reply_sha256[:16],
        )
    _out.print(table)
    _out.print(f"{len(read)} receipts, chain verified")
    if export is not None:
        _out.print(f"signed statement: {export}", soft_wrap=True, highlight=False)


def _export(
    run: RunDirectory,
    read: tuple[ReceivedLine, ...],
    shown: list[ReceivedLine],
    site: str | None,
    path: Path,
    key: Path | None,
) -> None:
    """What is not authentic may be anybody's: it stays out of what the coordinator signs for."""
    if site is not None:
        current_plan(run).site(site)
    private = load_signing_key(key or Deployment.load(run.path).coordinator_key)
    statement = Statement(
        run_id=run.run_id,
        plan_digest=run.plan.digest,
        site=site,
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        receipts=len(read),
        head=read[-1].digest if read else GENESIS,
        received=tuple(line.received for line in shown if line.authentic),
    )
    try:
        replace_durably(path, statement.signed(private).encode())
    except OSError as error:
        raise SmrfedError(
            "SMR-E541",
            f"cannot use the file {path}",
            found=error,
            remedy="check the path, free space and permissions",
        ) from None
