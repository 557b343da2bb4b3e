"""``smrfed-site join``, ``renew``, ``rotate-keys`` and ``allow-courier``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from client.agent.state import StateFolder
from client.commands.display import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    err,
    out,
    print_facts,
    print_json,
    require_a_person,
)
from client.commands.plans import accept
from client.config import SiteConfig
from client.enrolment.certified_plans import certified_plans, of_the_old_key
from client.enrolment.joining import Joining
from client.enrolment.keys import load_node_key, node_fingerprint
from client.enrolment.renewing import allow_courier as allow
from client.enrolment.renewing import renew as renew_connection
from client.enrolment.renewing import rotate_node_key, rotate_signing_key
from shared_model.enrolment.messages import Offer, public_key_of
from shared_model.enrolment.token import JoinToken
from shared_model.plan import Sha256
from shared_model.protocol.keys import fingerprint, load_signing_key

Yes = Annotated[bool, typer.Option("--yes", help="without asking")]


def _sha256(value: str) -> str:
    try:
        return TypeAdapter(Sha256).validate_python(value)
    except ValidationError:
        raise typer.BadParameter("64 hexadecimal digits") from None


def join(
    token: Annotated[
        str, typer.Argument(help="the coordinator's invitation; - reads it from standard input")
    ] = "-",
    config: ConfigPath = DEFAULT_CONFIG,
    yes: Yes = False,
    new_keys: Annotated[
        bool, typer.Option("--new-keys", help="another node key than the one that is there")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Join a federation, or a run of it: keys are made here and stay here."""
    site = SiteConfig.load(config)
    if token == "-":
        token = typer.prompt("token", hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
    joining = Joining.begin(site, JoinToken.decode(token))
    offer = joining.look()
    plan = joining.plan(offer)
    facts = _offered(joining, offer)
    if not as_json:
        print_facts(facts)
    if not yes:
        _ask(as_json)
    if plan is not None:
        path = joining.write_plan(plan)
        if not as_json:
            accept(path, config, yes, False)
        else:
            _accept_quietly(path, config)
    connection = joining.join(joining.node_key(new=new_keys), plan, offer)
    facts = {
        "joined": facts["federation"],
        "coordinator": connection.superlink,
        "its signing key": connection.coordinator,
        "this site": connection.site,
        "signing key": fingerprint(load_signing_key(StateFolder(site.state_dir).key).public_key()),
        "node key": node_fingerprint(load_node_key(site.connection.node_key)),
        "protocol": str(connection.protocol_version),
    }
    if plan is not None:
        facts |= {"plan": plan.name, "plan digest": plan.digest}
    if as_json:
        print_json({name.replace(" ", "_"): value for name, value in facts.items()})
        return
    print_facts(facts)
    out.print("\nCompare both signing keys with the coordinator by telephone (there: smrfed-"
              "coordinator sites).\nThen: smrfed-site up", highlight=False)  # fmt: skip


def renew(
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
    daily: Annotated[
        bool, typer.Option("--daily", help="and again every day, until SIGTERM or Ctrl-C")
    ] = False,
) -> None:
    """Ask the coordinator for what is new: its next signing key, app bundles, protocol."""
    if daily:
        from client.enrolment.daily import renew_daily
        from shared_model.supervision.end_signals import EndSignals

        renew_daily(
            SiteConfig.load(config), EndSignals(), lambda text: out.print(text, markup=False)
        )
        return
    done = renew_connection(SiteConfig.load(config))
    if as_json:
        print_json(done.__dict__)
        return
    facts = {
        "coordinator's key": done.coordinator + (" (new)" if done.changed_coordinator else ""),
        "protocol": str(done.protocol_version),
        "courier": ", ".join(one[:16] for one in done.courier_sha256),
    }
    if done.next_coordinator is not None:
        facts["its next key"] = f"{done.next_coordinator} (accepted)"
    print_facts(facts)
    for one in done.unallowed_courier:
        out.print(f"\nThe coordinator has another courier, which does not run here until you say:\n"
                  f"smrfed-site allow-courier {one}", soft_wrap=True, highlight=False)  # fmt: skip


def allow_courier(
    sha256: Annotated[str, typer.Argument(help="digest of the app bundle", callback=_sha256)],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Let one more app bundle of the coordinator run at this hospital."""
    connection = allow(SiteConfig.load(config), sha256)
    if as_json:
        print_json({"courier_sha256": connection.courier_sha256})
        return
    print_facts({"courier": ", ".join(connection.courier_sha256)})


def rotate_keys(
    config: ConfigPath = DEFAULT_CONFIG,
    node: Annotated[bool, typer.Option("--node", help="only the SuperNode's key")] = False,
    signing: Annotated[bool, typer.Option("--signing", help="only the signing key")] = False,
    as_json: AsJson = False,
) -> None:
    """Change this hospital's keys, on the word of the old ones; stop smrfed-site up before.

    Plans with a secure sum name the signing key: another key needs a new plan (SMR-E456).
    """
    site = SiteConfig.load(config)
    facts: dict[str, str] = {}
    certified = certified_plans(site) if signing or not node else ()
    if node or not signing:
        rotate_node_key(site)
        facts["node key"] = node_fingerprint(load_node_key(site.connection.node_key))
    if signing or not node:
        facts["signing key"] = fingerprint(rotate_signing_key(site))
    if as_json:
        said = {name.replace(" ", "_"): value for name, value in facts.items()}
        print_json({**said, "plans_of_the_old_key": [plan.digest for plan in certified]})
        return
    print_facts(facts)
    if certified:
        err.print(of_the_old_key(certified).render(), markup=False, highlight=False)
    out.print("Compare the fingerprint with the coordinator, then start smrfed-site up again.",
              highlight=False)  # fmt: skip


def _offered(joining: Joining, offer: Offer) -> dict[str, str]:
    return {
        "federation": "".join(c if c.isprintable() else " " for c in offer.federation),
        "coordinator": joining.token.address,
        "authority": joining.token.authority_sha256,
        "its signing key": fingerprint(public_key_of(offer.coordinator_key)),
        "courier": ", ".join(offer.courier_sha256),
    }


def _accept_quietly(path: object, config: object) -> None:
    """What a script asked for with --yes --json; the facts are printed once, at the end."""
    import contextlib
    import io
    from pathlib import Path

    with contextlib.redirect_stdout(io.StringIO()):
        accept(Path(str(path)), Path(str(config)), True, True)


def _ask(as_json: bool) -> None:
    require_a_person(
        as_json, act="a hospital joins on the word of a person", first="read what is offered"
    )
    err.print("Compare the two fingerprints with the coordinator by telephone.", markup=False)
    typer.confirm("Join this federation on behalf of the hospital?", abort=True)
