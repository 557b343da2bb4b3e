"""``smrfed-site receipts``: what left this hospital, what was refused, and what both sides say."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from client.agent.sent_reply import arrays_of, export, find_sent, header_of
from client.agent.state import StateFolder
from client.commands.display import DEFAULT_CONFIG, AsJson, ConfigPath, out, print_facts, print_json
from client.commands.refused_bundles import bundles
from client.config import SiteConfig
from client.egress.acknowledgements import Acknowledgements
from client.egress.receipts import Decision, Receipt, Receipts
from client.egress.reconcile import Difference, reconcile
from client.egress.refusals import Refusals
from shared_model.errors import SmrfedError
from shared_model.protocol.acknowledgement import Acknowledgement
from shared_model.protocol.keys import load_public_key, public_path
from shared_model.protocol.statement import Statement

app = typer.Typer(help="What left this hospital, and what was refused.")
app.command()(bundles)

Number = Annotated[int, typer.Argument(min=1, help="number of the receipt", metavar="NUMBER")]
Export = Annotated[
    Path | None,
    typer.Option("--export", help="folder for header, body and signature, each byte as it left"),
]
StatementPath = Annotated[
    Path, typer.Argument(help="the coordinator's signed file", metavar="STATEMENT")
]


@app.callback(invoke_without_command=True)
def receipts(
    context: typer.Context, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Show every decision about data leaving this hospital, and verify that none is missing."""
    if context.invoked_subcommand is None:
        show_list(config, as_json)


@app.command("list")
def show_list(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Every decision, whether the coordinator signed for it, and the refused instructions."""
    state = StateFolder(SiteConfig.load(config).state_dir)
    read = Receipts(state.receipts).read()
    if as_json:
        print_json([receipt.model_dump(mode="json") for receipt in read])
        return
    said = {a.reply_sha256: a for a in _acknowledged(config)}
    table = Table("no.", "time (UTC)", "left?", "run", "round", "bytes", "epsilon", "there?")
    for receipt in read:
        decision = receipt.decision
        epsilon = "" if decision.epsilon_after is None else f"{decision.epsilon_after:.3f}"
        table.add_row(
            str(receipt.number),
            receipt.time[5:16].replace("T", " "),
            "left" if decision.released else f"[red]{escape(decision.rule)}[/red]",
            escape(decision.run_id),
            f"{decision.round} {decision.kind}",
            f"{decision.bytes:,}",
            epsilon,
            _received(decision, said.get(decision.reply_sha256)),
        )
    out.print(table)
    out.print(f"{len(read)} receipts, chain verified")
    out.print("there?: whether the coordinator has signed for it; smrfed-site receipts show NUMBER")
    refused = Refusals(state.refusals).read()
    if refused:
        out.print(f"{len(refused)} lines on refused instructions: smrfed-site receipts refused")


@app.command()
def refused(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Instructions that were refused; of many with one number, the 1st, 2nd, 4th, ... of a day."""
    read = Refusals(StateFolder(SiteConfig.load(config).state_dir).refusals).read()
    if as_json:
        print_json([line.model_dump(mode="json") for line in read])
        return
    table = Table("no.", "time (UTC)", "number", "that day", "signed by", "run", "round", "bytes")
    for line in read:
        what = line.refused
        table.add_row(
            str(line.number),
            line.time[:19],
            what.code,
            f"{line.count}.",
            "the coordinator" if what.signed else "[red]nobody known[/red]",
            escape(what.run_id or ""),
            "" if what.round is None else f"{what.round} {what.kind}",
            "" if what.bytes is None else f"{what.bytes:,}",
        )
    out.print(table)
    out.print(f"{len(read)} lines, chain verified")


@app.command()
def verify(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Verify all records, and every kept copy of what left against its receipt and signature."""
    site = SiteConfig.load(config)
    state = StateFolder(site.state_dir)
    read = Receipts(state.receipts).read()
    refused_lines = len(Refusals(state.refusals).read())
    acknowledged = _acknowledged(config)
    coordinator = load_public_key(site.coordinator_key)
    for said in acknowledged:
        said.verify(coordinator)
    copies = 0
    released = [receipt.decision for receipt in read if receipt.decision.released]
    key = load_public_key(public_path(state.key)) if released else None
    for decision in released:
        try:
            if key is not None:
                find_sent(state, decision, key)
                copies += 1
        except SmrfedError as error:
            if error.code != "SMR-E369":
                raise
    facts = {
        "receipts": len(read),
        "released": len(released),
        "copies_verified": copies,
        "acknowledged": len(acknowledged),
        "refused_lines": refused_lines,
    }
    if as_json:
        print_json(facts)
        return
    print_facts(
        {
            "receipts": f"{len(read)}, chain verified; {len(released)} replies left",
            "copies": f"{copies} of them kept here: digests and signatures verified",
            "acknowledged": f"{len(acknowledged)} by the coordinator, signatures verified",
            "refused": f"{refused_lines} lines on refused instructions, chain verified",
        }
    )


@app.command()
def show(
    number: Number,
    config: ConfigPath = DEFAULT_CONFIG,
    to: Export = None,
    as_json: AsJson = False,
) -> None:
    """Show all that left with one receipt: the header, and every array with its range."""
    site = SiteConfig.load(config)
    state = StateFolder(site.state_dir)
    receipt = _find(Receipts(state.receipts).read(), number)
    reply = find_sent(state, receipt.decision, load_public_key(public_path(state.key)))
    header, arrays = header_of(reply), arrays_of(reply)
    written = [] if to is None else [str(path) for path in export(reply, to)]
    if as_json:
        print_json(
            {
                "receipt": receipt.model_dump(mode="json"),
                "header": header,
                "arrays": [asdict(array) for array in arrays],
                "reply_sha256": reply.digest.hex(),
                "written": written,
            }
        )
        return
    # The header says who asked what of whom; the digests are the ones that the receipt names.
    print_facts({"receipt": f"{receipt.number}, {receipt.time[:19]} UTC"} | header)
    table = Table("array", "shape", "bytes", "L2 norm", "smallest", "largest")
    for array in arrays:
        table.add_row(
            escape(array.name),
            " x ".join(map(str, array.shape)) or "1",
            f"{array.bytes:,}",
            *(f"{value:.6g}" for value in (array.norm, array.smallest, array.largest)),
        )
    out.print(table)
    size = len(reply.header) + len(reply.body) + len(reply.signature)
    out.print(f"{size:,} bytes; digests and signature verified against the receipt")
    for path in written:
        out.print(f"written: {path}", soft_wrap=True, highlight=False)


@app.command("reconcile")
def compare(
    statement: StatementPath, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Hold the coordinator's signed statement against this hospital's own receipts."""
    site = SiteConfig.load(config)
    theirs = Statement.load(statement, load_public_key(site.coordinator_key))
    if theirs.site not in (None, site.name):
        raise SmrfedError(
            "SMR-E367",
            f"{statement} is about another site",
            expected=site.name,
            found=theirs.site,
            remedy="ask the coordinator for smrfed-coordinator receipts RUN --site " + site.name,
        )
    mine = Receipts(StateFolder(site.state_dir).receipts).read()
    found = reconcile(site.name, mine, _acknowledged(config), theirs)
    if as_json:
        print_json({"run_id": theirs.run_id, "differences": [asdict(d) for d in found]})
    else:
        _print_differences(theirs, found)
    conflicts = [d for d in found if d.is_conflict]
    if conflicts:
        raise SmrfedError(
            "SMR-E368",
            f"this hospital and the coordinator do not agree on run {theirs.run_id}",
            expected="the same replies on both sides",
            found="; ".join(f"round {d.round} ({d.kind}) {d.what}" for d in conflicts[:5]),
            remedy="docs/errors/SMR-E368.md says what each difference can mean",
        )


def _print_differences(theirs: Statement, found: tuple[Difference, ...]) -> None:
    if found:
        table = Table("round", "what", "left here", "received there", "number")
        for d in found:
            digests = [(digest or "")[:16] for digest in (d.sent, d.received)]
            table.add_row(f"{d.round} {d.kind}", d.what, *digests, d.code or "")
        out.print(table)
    out.print(
        f"run {theirs.run_id}, statement of {theirs.written_at[:19]} UTC: "
        f"{sum(d.is_conflict for d in found)} differences"
    )


def _acknowledged(config: Path) -> tuple[Acknowledgement, ...]:
    site = SiteConfig.load(config)
    state = StateFolder(site.state_dir)
    if not state.acknowledgements.exists():
        return ()
    key = load_public_key(site.coordinator_key)
    book = Acknowledgements(state.acknowledgements, key, Receipts(state.receipts))
    return tuple(line.acknowledgement for line in book.read())


def _received(decision: Decision, said: Acknowledgement | None) -> str:
    if said is not None:
        return "yes" if said.accepted else f"[red]{said.code}[/red]"
    return "not yet" if decision.released else ""


def _find(read: tuple[Receipt, ...], number: int) -> Receipt:
    if number > len(read):
        raise SmrfedError(
            "SMR-E369",
            f"there is no receipt {number}",
            expected=f"1 to {len(read)}" if read else "no receipt yet",
            found=number,
            remedy="smrfed-site receipts lists them",
        )
    return read[number - 1]
