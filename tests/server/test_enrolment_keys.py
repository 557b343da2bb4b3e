"""Keys and certificates change without new kits: from the site, from the coordinator, in time."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from enrolment_federation import COURIER, Federation, federation, signing_key
from typer.testing import CliRunner

from client.agent.acceptance import AcceptedPlans
from client.agent.coordinator_keys import CoordinatorKeys
from client.agent.state import StateFolder
from client.cli import app as site_app
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from client.enrolment import renewing
from client.enrolment.renewing import allow_courier, renew, rotate_node_key, rotate_signing_key
from server.enrolment import authority as authority_module
from server.enrolment import service as service_module
from server.enrolment.authority import days_left, renew_if_due
from server.enrolment.coordinator_key import announce, carry_out
from server.enrolment.enroller import save_key_changes
from server.enrolment.revoke import revoke
from shared_model.enrolment.key_change import KeyChange
from shared_model.enrolment.messages import raw_hex
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.keys import (
    create_signing_key,
    fingerprint,
    load_public_key,
    load_signing_key,
    public_path,
)
from shared_model.protocol.sealed import seal
from simulations.deployed.summed_toys import summed_toy_plan


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Federation]:
    with federation(tmp_path) as made:
        yield made


@pytest.fixture
def joined(running: Federation) -> SiteConfig:
    hospital = running.hospital()
    running.join(hospital, running.token())
    return hospital


def refused(code: str, action: object, *args: object, **options: object) -> SmrfedError:
    with pytest.raises(SmrfedError) as raised:
        action(*args, **options)  # type: ignore[operator]
    assert raised.value.code == code, raised.value.render()
    return raised.value


def test_a_reissued_server_certificate_asks_nothing_of_sites(
    running: Federation, joined: SiteConfig
) -> None:
    folder = running.folder
    before, key = folder.certificate.read_bytes(), folder.certificate_key.read_bytes()
    kit = {p: p.read_bytes() for p in joined.connection.path.iterdir()}
    assert not renew_if_due(folder)
    assert folder.certificate.read_bytes() == before
    assert renew_if_due(folder, force=True)
    assert folder.certificate.read_bytes() != before
    assert folder.certificate_key.read_bytes() == key
    renew(joined)  # over TLS with the new certificate
    assert kit == {p: p.read_bytes() for p in joined.connection.path.iterdir()}


def test_a_certificate_is_reissued_before_its_end_and_when_the_address_changes(
    running: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = running.folder
    monkeypatch.setattr(authority_module, "SERVER_DAYS", 59)
    assert renew_if_due(folder, force=True)
    assert days_left(folder) < 60
    monkeypatch.undo()
    assert renew_if_due(folder)
    assert days_left(folder) > 390
    moved = folder.config.model_copy(update={"public_address": "fl.example.org:443"})
    folder.write_config(moved)
    assert renew_if_due(folder)
    leaf = x509.load_pem_x509_certificate(folder.certificate.read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "fl.example.org"]
    authority = x509.load_pem_x509_certificate(folder.authority.read_bytes())
    lasts = authority.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert lasts > datetime.timedelta(days=19 * 365)


def test_a_damaged_certificate_is_made_anew_and_a_damaged_authority_is_an_error(
    running: Federation,
) -> None:
    folder = running.folder
    folder.certificate.write_text("nothing")
    assert renew_if_due(folder)
    ssl.create_default_context(cafile=str(folder.authority))
    folder.authority_key.unlink()
    refused("SMR-E591", renew_if_due, folder)


def test_a_site_changes_its_node_key_without_a_token(
    running: Federation, joined: SiteConfig
) -> None:
    line = rotate_node_key(joined)
    assert list(running.nodes.known.values())[-1] == ("north", line)
    assert running.nodes.gone == [1]
    site = running.registry.site("north")
    assert site is not None
    assert site.node_key == line
    assert site.node_id == "2"
    public = joined.connection.node_key.with_name("node.key.pub")
    assert public.read_text() == line
    renew(joined)


def test_a_site_changes_its_signing_key_and_the_old_one_is_worth_nothing(
    running: Federation, joined: SiteConfig
) -> None:
    path = signing_key(joined)
    old = path.read_bytes()
    new = rotate_signing_key(joined)
    assert load_signing_key(path).public_key() == new == load_public_key(public_path(path))
    assert load_public_key(running.folder.site_keys / "north.pub") == new
    renew(joined)
    path.write_bytes(old)
    refused("SMR-E464", renew, joined)


@pytest.mark.parametrize("options", [("--signing",), ("--node",), ("--signing", "--json"), ()])
def test_who_rotates_the_key_of_a_secure_sum_is_told_of_its_plans(
    joined: SiteConfig, options: tuple[str, ...]
) -> None:
    state = StateFolder(joined.state_dir)
    others = {"south": "ab" * 32, "west": "cd" * 32}
    key = raw_hex(load_signing_key(state.key).public_key())
    concerned = summed_toy_plan({"north": key, **others})
    plans = AcceptedPlans(state.plans)
    unsummed = {
        "name": "local",
        "privacy": {"mode": "local", "noise_multiplier": 1.0},
        "federation": {"sites": [{"name": "north", "declared_patients": 9}]},
    }
    plans.accept(FederationPlan.parse(unsummed), None)
    for plan in (concerned, summed_toy_plan({"north": "ef" * 32, **others})):
        plans.accept(plan, None)
    config = joined.policy.parent / "site.toml"
    done = CliRunner().invoke(site_app, ["rotate-keys", "-c", str(config), *options])
    assert done.exit_code == 0, (done.output, done.exception)
    told = "[SMR-E456]" in done.stderr and concerned.digest[:12] in done.stderr
    assert told == (options in (("--signing",), ()))
    if "--json" in options:
        assert json.loads(done.stdout)["plans_of_the_old_key"] == [concerned.digest]
    again = CliRunner().invoke(site_app, ["rotate-keys", "-c", str(config), "--signing"])
    assert ("SMR-E456" in again.stderr) == (options == ("--node",))


@pytest.mark.parametrize("rotate", [rotate_node_key, rotate_signing_key])
def test_a_rotation_that_is_cut_off_after_the_coordinator_agreed_goes_on(
    running: Federation, joined: SiteConfig, rotate: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(renewing, "replace_key", dies)
    with pytest.raises(KeyboardInterrupt):
        rotate(joined)  # type: ignore[operator]
    monkeypatch.undo()
    rotate(joined)  # type: ignore[operator]
    renew(joined)
    events = [row[2] for row in running.registry.history("north")]
    assert len(events) == 3
    assert len(running.nodes.known) <= 2


def test_an_old_token_brings_no_old_key_back(running: Federation) -> None:
    hospital, token = running.hospital(), running.token()
    running.join(hospital, token)
    old = signing_key(hospital).read_bytes()
    rotate_signing_key(hospital)
    signing_key(hospital).write_bytes(old)
    refused("SMR-E464", running.join, hospital, token)


def test_a_stranger_rotates_nothing(running: Federation, joined: SiteConfig) -> None:
    path = signing_key(joined)
    path.unlink()
    create_signing_key(path)
    refused("SMR-E464", rotate_node_key, joined)
    refused("SMR-E464", rotate_signing_key, joined)
    assert [row[2] for row in running.registry.history()] == ["invited", "enrolled"]


def test_a_running_agent_keeps_its_signing_key(running: Federation, joined: SiteConfig) -> None:
    from client.agent.state_lock import StateLock

    lock = StateLock(joined.state_dir)
    refused("SMR-E408", rotate_signing_key, joined)
    lock.release()
    rotate_signing_key(joined)


def test_a_revoked_site_asks_in_vain(running: Federation, joined: SiteConfig) -> None:
    revoke(running.folder, running.nodes, "north", "")
    refused("SMR-E464", renew, joined)
    refused("SMR-E464", rotate_node_key, joined)


def test_the_coordinators_key_changes_without_new_kits(
    running: Federation, joined: SiteConfig
) -> None:
    folder = running.folder
    old = load_signing_key(folder.signing_key)
    keys = CoordinatorKeys(joined, SitePolicy.load(joined.policy))
    refused("SMR-E598", carry_out, folder, running.registry, without=())
    change = announce(folder)
    assert announce(folder) == change
    refused("SMR-E598", carry_out, folder, running.registry, without=())
    assert refuses(keys, seal(b"{}", b"", load_signing_key(folder.path / "coordinator.next.pem")))

    done = renew(joined)
    assert done.next_coordinator == fingerprint(change.new_key)
    assert not done.changed_coordinator
    assert keys.signer(seal(b"{}", b"", old)) == old.public_key()
    carry_out(folder, running.registry, without=())
    new = load_signing_key(folder.signing_key)
    assert raw_hex(new.public_key()) == change.new
    # The agent obeys both until the hospital has heard of the change, and the new one afterwards.
    assert keys.signer(seal(b"{}", b"", new)) == new.public_key()
    assert renew(joined).changed_coordinator
    assert load_public_key(joined.coordinator_key) == new.public_key()
    assert keys.signer(seal(b"{}", b"", new)) == new.public_key()
    assert refuses(keys, seal(b"{}", b"", old))
    assert joined.connection.load().coordinator == fingerprint(new.public_key())
    assert not renew(joined).changed_coordinator


def test_a_hospital_that_missed_the_change_hears_of_it_later(
    running: Federation, joined: SiteConfig
) -> None:
    announce(running.folder)
    carry_out(running.folder, running.registry, without=("north",))
    assert renew(joined).changed_coordinator


def test_a_hospital_that_missed_several_changes_follows_them_all(
    running: Federation, joined: SiteConfig
) -> None:
    for _ in range(3):
        announce(running.folder)
        carry_out(running.folder, running.registry, without=("north",))
    announce(running.folder)
    assert renew(joined).changed_coordinator
    current = load_public_key(public_path(running.folder.signing_key))
    assert load_public_key(joined.coordinator_key) == current
    assert renew(joined).next_coordinator is not None
    carry_out(running.folder, running.registry, without=())


def test_a_policy_that_pins_the_coordinator_refuses_the_next_key(
    running: Federation, joined: SiteConfig
) -> None:
    known = fingerprint(load_public_key(joined.coordinator_key))
    with joined.policy.open("a") as file:
        file.write(f'\ncoordinators = ["{known}"]\n')
    announce(running.folder)
    refused("SMR-E363", renew, joined)
    assert not joined.next_coordinator_key.exists()


def test_a_new_key_that_nobody_vouches_for_is_refused(
    running: Federation, joined: SiteConfig, tmp_path: Path
) -> None:
    folder = running.folder
    known = joined.coordinator_key.read_bytes()
    for path in (folder.signing_key, public_path(folder.signing_key)):
        path.unlink()
    lost = create_signing_key(folder.signing_key)
    refused("SMR-E468", renew, joined)
    # Nor with a statement that the new key wrote for itself.
    forged = KeyChange.announce(lost, lost, "2026-01-01T00:00:00+00:00").model_copy(
        update={"old": raw_hex(load_public_key(joined.coordinator_key))}
    )
    save_key_changes(folder, (forged,))
    refused("SMR-E468", renew, joined)
    assert joined.coordinator_key.read_bytes() == known


def test_another_courier_runs_only_with_the_hospitals_consent(
    running: Federation, joined: SiteConfig
) -> None:
    newer = "cd" * 32
    running.enroller._courier = (COURIER, newer)
    assert renew(joined).unallowed_courier == (newer,)
    assert joined.connection.load().courier_sha256 == (COURIER,)
    allow_courier(joined, newer)
    assert joined.connection.load().courier_sha256 == (COURIER, newer)
    newest = "ef" * 32
    running.enroller._courier = (newest,)
    path = running.work / "north" / "site.toml"
    text = path.read_text()
    assert "[network]\n" in text
    path.write_text(text.replace("[network]\n", '[network]\ncourier_updates = "accept"\n'))
    willing = SiteConfig.load(path)
    assert renew(willing).unallowed_courier == ()
    assert joined.connection.load().courier_sha256 == (COURIER, newer, newest)


def test_a_site_that_has_not_joined_is_told(running: Federation) -> None:
    refused("SMR-E460", renew, running.hospital())
    refused("SMR-E460", rotate_node_key, running.hospital())


def test_a_busy_or_absent_service_behind_a_proxy_is_told_apart_from_a_refusal(
    running: Federation, joined: SiteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(self: object) -> None:
        self.send_error(503)  # type: ignore[attr-defined]

    monkeypatch.setattr(service_module._Handler, "do_POST", busy)
    error = refused("SMR-E465", renew, joined)
    assert "503" in str(error.found)


def test_an_authority_that_is_no_certificate_is_told(
    running: Federation, joined: SiteConfig
) -> None:
    joined.connection.authority.write_text("nothing")
    refused("SMR-E463", renew, joined)


def refuses(keys: CoordinatorKeys, message: object) -> bool:
    with pytest.raises(SmrfedError, match="SMR-E113"):
        keys.signer(message)  # type: ignore[arg-type]
    return True
