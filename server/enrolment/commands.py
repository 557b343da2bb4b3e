"""``smrfed-coordinator init|invite|sites|revoke|renew|rotate|enrolment-service``."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from server.config import CONFIG_FILE, CoordinatorConfig, CoordinatorFolder
from server.enrolment.authority import (
    authority_sha256,
    create_authority,
    days_left,
    renew_if_due,
)
from server.enrolment.coordinator_key import announce, carry_out
from server.enrolment.invite import invite as make_invitation
from server.enrolment.registry import Registry, Site
from server.enrolment.revoke import revoke as revoke_site
from server.enrolment.superlink import SuperLinkNodes
from server.run_path import HERE, Home
from shared_model.enrolment.messages import public_key_of
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import fingerprint, load_or_create_signing_key, load_signing_key
from shared_model.supervision.end_signals import EndSignals
from shared_model.supervision.safety import is_loopback

SiteArgument = Annotated[str, typer.Argument(help="the hospital's name", metavar="SITE")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]

_LOOK_EVERY_S = 3600.0
_log = logging.getLogger(__name__)
_out = Console()


def init(
    address: Annotated[
        str | None, typer.Option(help="host:port that the hospitals connect to")
    ] = None,
    name: Annotated[str, typer.Option(help="the consortium, for people")] = "smrfed",
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Make the coordinator's folder: configuration, authority, certificate, key, registry.

    Run again, it makes what is missing and leaves the rest.
    """
    folder = CoordinatorFolder(home)
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder.path / CONFIG_FILE).exists():
        folder.write_config(_config(name, address))
    elif address is not None and address != folder.config.public_address:
        raise SmrfedError(
            "SMR-E590",
            f"{folder.path / CONFIG_FILE} names another address",
            expected=folder.config.public_address,
            found=address,
            remedy="edit public_address there, then: smrfed-coordinator renew; hospitals that "
            "joined keep the old address until they join again",
        )
    create_authority(folder)
    key = load_or_create_signing_key(folder.signing_key)
    Registry(folder.registry)
    for path in (folder.site_keys, folder.runs, folder.logs):
        path.mkdir(exist_ok=True)
    _show(
        {
            "folder": str(folder.path),
            "address": folder.config.public_address,
            "authority": authority_sha256(folder),
            "signing key": fingerprint(key.public_key()),
            "server certificate": f"{days_left(folder):.0f} days",
        },
        as_json,
    )


def invite(
    site: SiteArgument,
    run: Annotated[str | None, typer.Option(help="a run in HOME/runs that it comes to")] = None,
    patients: Annotated[
        int | None, typer.Option(min=1, help="public size of its training set")
    ] = None,
    valid_hours: Annotated[int, typer.Option(min=1, max=24 * 90)] = 72,
    replace: Annotated[bool, typer.Option("--replace", help="the hospital lost its keys")] = False,
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Print a one-time token for a hospital; hand it over by a channel that you trust."""
    folder = CoordinatorFolder(home)
    made = make_invitation(
        folder, site, valid_s=valid_hours * 3600, run=run, patients=patients, replace=replace
    )
    expires = datetime.fromtimestamp(made.token.expires_at, UTC).isoformat(timespec="minutes")
    facts = {
        "token": made.token.encode(),
        "site": site,
        "valid until": expires,
        "coordinator": made.token.address,
        "authority": made.token.authority_sha256,
        "signing key": fingerprint(load_signing_key(folder.signing_key).public_key()),
    }
    if made.plan_digest is not None:
        facts |= {"run": str(run), "plan digest": made.plan_digest}
    _show(facts, as_json)
    if not as_json:
        _out.print(
            "\nAt the hospital: smrfed-site join TOKEN. Compare both fingerprints by telephone.\n"
            "Good once; an earlier token for this hospital is good no more.",
            highlight=False,
        )


def sites(
    home: Home = HERE,
    as_json: AsJson = False,
    history: Annotated[bool, typer.Option("--history", help="every change, oldest first")] = False,
) -> None:
    """List the hospitals with their state and the fingerprints of their keys."""
    registry = Registry(CoordinatorFolder(home).registry)
    if history:
        rows = registry.history()
        if as_json:
            print(json.dumps(rows))
            return
        table = Table("time (UTC)", "site", "event", "detail")
        for row in rows:
            table.add_row(*map(escape, row))
        _out.print(table)
        return
    known = registry.sites()
    if as_json:
        print(json.dumps([_facts(site) for site in known]))
        return
    # Fits 80 columns: fingerprints are there to be read aloud, whole.
    table = Table("site", "state", Column("signing key", no_wrap=True), "changed", box=None)
    for site in known:
        facts = _facts(site)
        cells = (facts["site"], facts["state"], facts["signing_key"] or "", site.changed_at[:10])
        table.add_row(*(escape(str(cell)) for cell in cells))
    _out.print(table)


def revoke(
    site: SiteArgument,
    reason: Annotated[str, typer.Option(help="for the history")] = "",
    home: Home = HERE,
) -> None:
    """End a hospital's part: its node is refused, its replies too; running runs notice by then."""
    folder = CoordinatorFolder(home)
    revoke_site(folder, SuperLinkNodes(folder), site, reason)
    _out.print(f"{site} is revoked: its replies are refused from now on", highlight=False)


def renew(
    home: Home = HERE,
    force: Annotated[bool, typer.Option("--force", help="also long before its end")] = False,
) -> None:
    """Reissue the server certificate when its end is near; hospitals notice nothing."""
    folder = CoordinatorFolder(home)
    renewed = renew_if_due(folder, force=force)
    said = "reissued: reload nginx; smrfed-coordinator up restarts the SuperLink by itself"
    said = said if renewed else "not due"
    _out.print(f"{said}; {days_left(folder):.0f} days are left", highlight=False)


def rotate(
    finish: Annotated[bool, typer.Option("--finish", help="carry out what was announced")] = False,
    without: Annotated[
        str, typer.Option(help="hospitals that may miss it, by commas", metavar="SITES")
    ] = "",
    home: Home = HERE,
    as_json: AsJson = False,
) -> None:
    """Change the coordinator's signing key: announce it, and with --finish carry it out."""
    folder = CoordinatorFolder(home)
    registry = Registry(folder.registry)
    if finish:
        carry_out(folder, registry, without=tuple(filter(None, without.split(","))))
        key = load_signing_key(folder.signing_key).public_key()
        _show(
            {
                "signing key": fingerprint(key),
                "next": "runs that go on use it from their next round on",
            },
            as_json,
        )
        return
    change = announce(folder)
    accepted = [
        site.name
        for site in registry.sites()
        if site.state == "enrolled" and site.accepts_key == change.new
    ]
    _show(
        {
            "signing key": fingerprint(public_key_of(change.old)),
            "next key": fingerprint(change.new_key),
            "accepted by": ", ".join(accepted) or "nobody yet",
            "next": "smrfed-site renew at every hospital, then: smrfed-coordinator rotate --finish",
        },
        as_json,
    )


def enrolment_service(
    home: Home = HERE,
    tls: Annotated[bool, typer.Option("--tls", help="without a proxy that ends TLS")] = False,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="default: enrolment_port")] = None,
) -> None:
    """Serve enrolment until SIGTERM; reissue the server certificate when its end is near."""
    from server.enrolment.enroller import Enroller
    from server.enrolment.service import EnrolmentServer
    from server.flower.fab import write_app_bundle

    folder = CoordinatorFolder(home)
    if not tls and not is_loopback(host):
        raise SmrfedError(
            "SMR-E592",
            "the enrolment service does not serve plain HTTP where other machines reach it",
            expected="127.0.0.1 behind the reverse proxy, or --tls",
            found=host,
            remedy="tokens would pass unprotected: leave --host out, or say --tls",
        )
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per call to the SuperLink
    with tempfile.TemporaryDirectory() as temporary:
        bundle = write_app_bundle(Path(temporary)).sha256
    enroller = Enroller(folder, SuperLinkNodes(folder), (bundle,))
    files = (str(folder.certificate), str(folder.certificate_key)) if tls else None
    address = (host, folder.config.enrolment_port if port is None else port)
    try:
        server = EnrolmentServer(enroller, address, files)
    except OSError as error:
        raise SmrfedError(
            "SMR-E592",
            f"the enrolment service cannot listen on {address[0]}:{address[1]}",
            found=error,
            remedy="stop what listens there, or set enrolment_port in coordinator.toml",
        ) from None
    end = EndSignals()
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _log.info("enrolment service on %s:%d", *server.server_address[:2])
        while True:
            _renew_quietly(folder)
            if end.wait(_LOOK_EVERY_S):
                break
        server.shutdown()


def add_to(app: typer.Typer) -> None:
    """Put the commands into the coordinator's command line."""
    for command in (init, invite, sites, revoke, renew, rotate):
        app.command()(command)
    app.command("enrolment-service")(enrolment_service)


def _renew_quietly(folder: CoordinatorFolder) -> None:
    try:
        if renew_if_due(folder):
            _log.warning("server certificate reissued: nginx has to be reloaded")
    except SmrfedError as error:
        _log.error("server certificate: %s", error)


def _config(name: str, address: str | None) -> CoordinatorConfig:
    try:
        return CoordinatorConfig(name=name, public_address=address or "")
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        if address is None:
            problems = "no address"
        raise SmrfedError(
            "SMR-E590",
            "a new folder needs the address that hospitals connect to",
            expected="--address HOST:PORT, for example fl.example.org:443",
            found=problems,
            remedy="say smrfed-coordinator init --address HOST:PORT",
        ) from None


def _facts(site: Site) -> dict[str, object]:
    key = site.signing_key
    return {
        "site": site.name,
        "state": site.state,
        "signing_key": None if key is None else fingerprint(public_key_of(key)),
        "node_id": site.node_id,
        "protocol_version": site.protocol_version,
        "changed_at": site.changed_at,
    }


def _show(facts: dict[str, str], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name.replace(" ", "_"): value for name, value in facts.items()}))
        return
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        _out.print(f"[bold]{name:{width}}[/bold]{escape(value)}", soft_wrap=True, highlight=False)
