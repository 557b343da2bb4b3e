"""The ledger for a data protection officer: one signed HTML file, with the same as JSON inside."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html import escape
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from client.ledger_view.overview import Overview
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import fingerprint

_CONTEXT = b"smrfed ledger export 1\n"
_SIGNATURE = re.compile(rb"<!-- smrfed ledger export, Ed25519: ([0-9a-f]{128}) -->\n?\Z")
_JSON = re.compile(
    r'<script type="application/json" id="smrfed-ledger">\n(.*?)\n</script>', re.DOTALL
)
_STYLE = (
    "body{font:15px/1.5 Helvetica,Arial,sans-serif;color:#26313b;max-width:60em;margin:2em auto;"
    "padding:0 1em}table{border-collapse:collapse;margin:1em 0}td,th{border-bottom:1px solid "
    "#d9dee3;padding:.25em .9em .25em 0;text-align:left;vertical-align:top}td.n{text-align:right;"
    "font-variant-numeric:tabular-nums}code{font-size:.9em;word-break:break-all}svg{max-width:100%;"
    "height:auto}"
)


class Export(BaseModel):
    """What an export says; ``events`` and ``head`` name the ledger's newest event at its time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    site: str
    exported_at: str
    key_fingerprint: str
    events: int
    head: str
    overview: Overview


def export_html(
    site: str, overview: Overview, head: tuple[int, str], svg: str, key: Ed25519PrivateKey
) -> bytes:
    """The document, its last line the site's signature over every byte before it.

    It names no patient and holds no keyed hash: numbers of patients, mechanisms and epsilons.
    """
    content = Export(
        site=site,
        exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        key_fingerprint=fingerprint(key.public_key()),
        events=head[0],
        head=head[1],
        overview=overview,
    )
    # "</" would end the script element early.
    data = content.model_dump_json(indent=1).replace("</", "<\\/")
    body = _page(content, svg) + (
        f'<script type="application/json" id="smrfed-ledger">\n{data}\n</script>\n</body></html>\n'
    )
    signed = body.encode()
    signature = key.sign(_CONTEXT + signed).hex()
    return signed + f"<!-- smrfed ledger export, Ed25519: {signature} -->\n".encode()


def verified(document: bytes, key: Ed25519PublicKey) -> Export:
    """What a document says, once its signature holds; raises SMR-E354."""
    match = _SIGNATURE.search(document)
    if match is None:
        raise _not_genuine("a file whose last line is no signature")
    signed = document[: match.start()]
    try:
        key.verify(bytes.fromhex(match[1].decode()), _CONTEXT + signed)
    except InvalidSignature:
        raise _not_genuine(f"not the signature of key {fingerprint(key)}") from None
    data = _JSON.search(signed.decode(errors="replace"))
    try:
        return Export.model_validate_json(data[1] if data else "")
    except ValidationError as error:
        raise _not_genuine(f"{error.error_count()} fields that cannot be read") from None


def _not_genuine(found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E354",
        "this is not an export of this site's ledger, or it was changed",
        expected="an HTML file of smrfed-site ledger export, byte for byte",
        found=found,
        remedy="name the site's public key with --key; ask the hospital for the file again",
    )


def _page(content: Export, svg: str) -> str:
    o = content.overview
    delta = f"{o.delta:g}"
    facts = {
        "Hospital": content.site,
        "Date": content.exported_at,
        "Spent by the patient who has spent most": f"ε {o.epsilon:.4f} of {o.max_epsilon:g} at "
        f"δ {delta}; {o.remaining:.4f} remain",
        "Under replacement of a patient's data": _number(o.replace_one),
        "Half of the patients have spent at most": f"ε {o.median:.4f}",
        "Patients ever charged": str(o.patients),
        "Ledger": f"{content.events} events, hash chain verified, newest {content.head}",
        "Signing key": content.key_fingerprint,
    }
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
    levels = _table(
        ("ε", "ε, replace one", "patients"),
        [(f"{v.epsilon:.4f}", _number(v.replace_one), str(v.patients)) for v in o.levels],
    )
    plans = _table(
        ("plan", "ε, worst patient", "budget", "δ", "charges", "digest", "who is trusted"),
        [
            (
                p.name,
                f"{p.epsilon:.4f}",
                "unknown" if p.epsilon_budget is None else f"{p.epsilon_budget:g}",
                f"{p.delta:g}",
                ", ".join(f"{count} {purpose}" for purpose, count in p.releases.items()) or "none",
                p.digest[:16],
                p.trust or "unknown",
            )
            for p in o.plans
        ],
    )
    entries = _table(
        ("no.", "time (UTC)", "run", "round", "purpose", "noise", "rate", "steps", "patients",
         "state"),
        [_entry(entry) for entry in o.entries],
    )  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Privacy ledger of '
        f"{escape(content.site)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Privacy ledger of {escape(content.site)}</h1><table>{rows}</table>"
        f"{_exception(o.without_privacy)}"
        "<p>Everything that this hospital ever released is, for each of its patients, "
        "(ε, δ)-differentially private with the figures below: with or without all data of that "
        "one patient, nobody who sees all releases can tell the difference with more confidence "
        "than ε and δ allow. A patient is charged for every release that the patient may have been "
        "part of, and for no other. ε never goes down.</p>"
        f"{svg}<h2>Patients</h2>{levels}<h2>Plans</h2>{plans}<h2>Charges</h2>"
        "<p>A charge in state reserve or commit belongs to an attempt that did not end; it counts "
        f"in full.</p>{entries}"
    )


def _exception(without_privacy: int) -> str:
    if not without_privacy:
        return ""
    return (
        f"<p><strong>Not covered: {without_privacy} releases in privacy mode none, without any "
        "noise. What follows holds for all other releases, and for patients who were in none of "
        "these.</strong></p>"
    )


def _entry(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(entry["id"]), entry["time"][:19], entry["run"], str(entry["round"]), entry["purpose"],
        f"{entry['noise_multiplier']:.4g}", f"{entry['sampling_rate']:g}", str(entry["steps"]),
        str(entry["patients"]), entry["state"],
    )  # fmt: skip


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _number(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:.4f}"


def as_json(export: Export) -> dict[str, Any]:
    """The export as plain data."""
    data: dict[str, Any] = json.loads(export.model_dump_json())
    return data
