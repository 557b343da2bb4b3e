"""Hospitals join over real TLS with a real registry; tokens are good once, for one, for a while."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from enrolment_federation import COURIER, Federation, Nodes, federation, serving, signing_key
from toy_federation import initial_arrays, make_plan

from client.enrolment.joining import Joining
from client.enrolment.keys import load_node_key
from client.enrolment.pinned import PinnedCoordinator
from server.checkpoints.run_directory import RunDirectory
from server.enrolment import enroller as enroller_module
from server.enrolment.additions import additions
from server.enrolment.registry import Registry
from server.enrolment.revoke import revoke
from shared_model.enrolment.messages import JoinRequest, Welcome, node_key_line, raw_hex
from shared_model.enrolment.token import JoinToken
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import (
    create_signing_key,
    fingerprint,
    load_public_key,
    load_signing_key,
    public_path,
)
from simulations.deployed.processes import free_ports


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Federation]:
    with federation(tmp_path) as made:
        yield made


def refused(code: str, action: object, *args: object) -> SmrfedError:
    with pytest.raises(SmrfedError) as raised:
        action(*args)  # type: ignore[operator]
    assert raised.value.code == code, raised.value.render()
    return raised.value


def test_a_hospital_joins_and_both_ends_show_the_same_fingerprints(running: Federation) -> None:
    hospital, token = running.hospital(), running.token()
    connection = running.join(hospital, token)
    site = running.registry.site("north")
    assert site is not None
    assert site.state == "enrolled"
    assert site.protocol_version == 1
    assert site.signing_key == raw_hex(load_signing_key(signing_key(hospital)).public_key())
    coordinator = load_public_key(public_path(running.folder.signing_key))
    assert connection.coordinator == fingerprint(coordinator)
    assert load_public_key(hospital.coordinator_key) == load_public_key(
        public_path(running.folder.signing_key)
    )
    assert connection.courier_sha256 == (COURIER,)
    assert load_public_key(running.folder.site_keys / "north.pub") == load_public_key(
        public_path(signing_key(hospital))
    )
    ((name, line),) = running.nodes.known.values()
    private = load_node_key(hospital.connection.node_key)
    assert (name, line) == ("north", node_key_line(private.public_key()))
    assert hospital.connection.authority.read_bytes() == running.folder.authority.read_bytes()
    for secret in (hospital.connection.node_key, hospital.connection.superexec_secret):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_the_registry_and_its_files_hold_no_secret_of_a_token(running: Federation) -> None:
    token = running.token()
    running.join(running.hospital(), token)
    for path in running.folder.path.rglob("*"):
        if path.is_file():
            assert token.secret.encode() not in path.read_bytes(), path


def test_joining_again_with_the_same_keys_goes_on_and_with_others_does_not(
    running: Federation,
) -> None:
    hospital, token = running.hospital(), running.token()
    first = running.join(hospital, token)
    hospital.connection.file.unlink()
    assert running.join(hospital, token) == first
    assert len(running.nodes.known) == 1
    thief = running.hospital("north", folder="thief")
    refused("SMR-E464", running.join, thief, token)
    assert len(running.nodes.known) == 1
    assert [row[2] for row in running.registry.history()] == ["invited", "enrolled"]


def test_a_token_that_was_stolen_and_used_first_shuts_the_hospital_out(running: Federation) -> None:
    token = running.token()
    running.join(running.hospital("north", folder="thief"), token)
    error = refused("SMR-E464", running.join, running.hospital(), token)
    assert "other keys" in error.what


def test_an_expired_token_is_refused_at_both_ends(running: Federation) -> None:
    token = running.token(valid_s=-5)
    refused("SMR-E462", running.join, running.hospital(), token)
    later = token.model_copy(update={"expires_at": token.expires_at + 900})
    assert "expired" in refused("SMR-E464", running.join, running.hospital(), later).what


def test_a_token_for_another_name_is_refused_at_both_ends(running: Federation) -> None:
    token = running.token("south")
    refused("SMR-E462", running.join, running.hospital(), token)
    renamed = token.model_copy(update={"site": "north"})
    refused("SMR-E464", running.join, running.hospital(), renamed)


def test_an_unknown_secret_and_a_withdrawn_invitation_are_refused(running: Federation) -> None:
    first = running.token()
    refused("SMR-E464", running.join, running.hospital(),
            first.model_copy(update={"secret": "0" * 64}))  # fmt: skip
    running.token()
    assert "withdrawn" in refused("SMR-E464", running.join, running.hospital(), first).what


def test_nothing_is_sent_to_a_server_of_another_authority(
    running: Federation, tmp_path: Path
) -> None:
    token = running.token()
    with federation(tmp_path / "impostor") as impostor:
        lured = token.model_copy(update={"address": impostor.folder.config.public_address})
        refused("SMR-E463", running.join, running.hospital(), lured)
        # Nor when the impostor shows the right authority's certificate behind its own.
        chain = impostor.folder.certificate
        own = chain.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
        chain.write_text(own + "\n" + running.folder.authority.read_text())
        refused("SMR-E463", running.join, running.hospital(), lured)
        assert impostor.registry.history() == ()


def test_a_certificate_for_another_host_is_refused(running: Federation) -> None:
    """The right authority is not enough: a certificate is good for the names in it."""
    (port,) = free_ports(1)
    with serving(running.folder, running.enroller, port, host="127.0.0.2"):
        lured = running.token().model_copy(update={"address": f"127.0.0.2:{port}"})
        refused("SMR-E463", running.join, running.hospital(), lured)
    assert [row[2] for row in running.registry.history()] == ["invited"]


def test_a_server_that_is_away_is_named(running: Federation) -> None:
    token = running.token().model_copy(update={"address": "127.0.0.1:9"})
    refused("SMR-E465", running.join, running.hospital(), token)


def test_a_join_without_the_private_keys_is_refused(running: Federation, tmp_path: Path) -> None:
    hospital, token = running.hospital(), running.token()
    joining = Joining.begin(hospital, token)
    node = joining.node_key()
    real, other = load_signing_key(signing_key(hospital)), create_signing_key(tmp_path / "x.pem")
    honest = JoinRequest(
        secret=token.secret,
        site="north",
        node_key=node_key_line(node.public_key()),
        signing_key=raw_hex(real.public_key()),
    )
    forged = [
        honest,  # no proof at all
        honest.proven(other, node),
        honest.proven(real, node).model_copy(update={"node_proof": "00" * 40}),
        honest.proven(real, node).model_copy(update={"asked_at": honest.asked_at - 1}),
    ]
    for request in forged:
        assert "proof" in refused("SMR-E464", ask, joining.coordinator, request).what
    late = honest.model_copy(update={"asked_at": honest.asked_at - 3600}).proven(real, node)
    assert "clocks" in refused("SMR-E464", ask, joining.coordinator, late).what
    once = honest.proven(real, node)
    ask(joining.coordinator, once)
    assert "came before" in refused("SMR-E464", ask, joining.coordinator, once).what


def ask(coordinator: PinnedCoordinator, request: JoinRequest) -> Welcome:
    return coordinator.ask("join", request, Welcome)


def test_a_signing_key_belongs_to_one_site(running: Federation) -> None:
    north, south = running.hospital(), running.hospital("south")
    running.join(north, running.token())
    signing_key(south).write_bytes(signing_key(north).read_bytes())
    error = refused("SMR-E464", running.join, south, running.token("south"))
    assert "another site" in error.what


def test_a_superlink_that_is_away_costs_nothing(running: Federation) -> None:
    hospital, token = running.hospital(), running.token()
    running.nodes.away = True
    assert "cannot be registered" in refused("SMR-E464", running.join, hospital, token).what
    assert not hospital.connection.file.exists()
    running.nodes.away = False
    running.join(hospital, token)


def test_no_common_protocol_version_is_told_by_number(
    running: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enroller_module, "SPOKEN", (7, 8))
    error = refused("SMR-E466", running.join, running.hospital(), running.token())
    assert "speaks [1]" in str(error.found)


def test_a_revoked_site_is_out_and_its_token_is_worthless(running: Federation) -> None:
    hospital, token = running.hospital(), running.token()
    running.join(hospital, token)
    revoke(running.folder, running.nodes, "north", "left")
    assert running.nodes.gone == [1]
    assert not (running.folder.site_keys / "north.pub").exists()
    refused("SMR-E464", running.join, hospital, token)
    again = running.token()
    running.join(hospital, again)
    site = running.registry.site("north")
    assert site is not None
    assert site.state == "enrolled"
    assert not (running.folder.site_keys / "north.revoked").exists()


def test_an_enrolled_site_is_replaced_only_on_purpose(running: Federation) -> None:
    running.join(running.hospital(), running.token())
    refused("SMR-E593", running.token)
    token = running.token(replace=True)
    running.join(running.hospital("north", folder="second"), token)
    assert running.nodes.gone == [1]


_KILLED = """
import os, sys
from pathlib import Path
import client.enrolment.joining as joining_module
from client.config import SiteConfig
from client.enrolment.joining import Joining
from shared_model.enrolment.token import JoinToken
steps = int(sys.argv[3])
def dying(write):
    def wrapped(*args, **kwargs):
        global steps
        if steps == 0:
            os._exit(9)
        steps -= 1
        return write(*args, **kwargs)
    return wrapped
import client.agent.durable, client.enrolment.keys, client.enrolment.connection
for module in (joining_module, client.enrolment.keys, client.enrolment.connection):
    module.write_durably = dying(module.write_durably)
joining_module.PinnedCoordinator.ask = dying(joining_module.PinnedCoordinator.ask)
joining = Joining.begin(SiteConfig.load(Path(sys.argv[1])), JoinToken.decode(sys.argv[2]))
offer = joining.look()
joining.join(joining.node_key(), joining.plan(offer), offer)
"""


def test_a_join_that_is_killed_at_any_step_goes_on(running: Federation) -> None:
    """Each new process is killed one step later than the one before, until one gets through."""
    hospital, token = running.hospital(), running.token()
    script = running.work / "killed.py"
    script.write_text(_KILLED)
    config = running.work / "north" / "site.toml"
    codes = []
    for steps in range(12):
        command = [sys.executable, str(script), str(config), token.encode(), str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in (0, 9), done.stderr
        codes.append(done.returncode)
        if done.returncode == 0:
            break
        assert not hospital.connection.file.exists()
    assert codes[-1] == 0
    assert len(codes) > 3
    assert hospital.connection.load().site == "north"
    assert len(running.nodes.known) == 1
    assert [row[2] for row in running.registry.history()] == ["invited", "enrolled"]


@pytest.mark.parametrize(
    "step",
    ["Registry.bind", "Nodes.register", "publish_key", "Registry.enrol", "Nodes.unregister", "add"],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_service_that_dies_at_any_step_goes_on(
    running: Federation, step: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is done or not done when the service dies; the hospital simply joins again."""
    run = RunDirectory.create(
        running.folder.runs / "study", make_plan("a", "b"), initial_arrays(), "study-1"
    )
    first = running.hospital("north", folder="first")
    running.join(first, running.token())
    hospital = running.hospital()
    token = running.token(run="study", patients=3, replace=True)
    owners = {"Registry": Registry, "Nodes": Nodes}
    owner, _, name = step.rpartition(".")
    target = owners.get(owner, enroller_module)
    with monkeypatch.context() as patch:
        patch.setattr(target, name, dying(getattr(target, name), when))
        refused("SMR-E464", running.join, hospital, token)
    assert not hospital.connection.file.exists()
    running.join(hospital, token)
    site = running.registry.site("north")
    assert site is not None
    assert site.signing_key == raw_hex(load_signing_key(signing_key(hospital)).public_key())
    assert [one.site.name for one in additions(run)] == ["north"]
    assert [row[2] for row in running.registry.history()].count("enrolled") == 2
    assert len(running.nodes.known) == 2
    assert set(running.nodes.gone) == {1}


def dying(act: Callable[..., object], when: str) -> Callable[..., object]:
    def dies(*args: object, **options: object) -> object:
        if when == "after":
            act(*args, **options)
        raise RuntimeError("the service is gone")

    return dies


def test_a_connection_of_a_newer_version_is_refused_clearly(running: Federation) -> None:
    hospital = running.hospital()
    running.join(hospital, running.token())
    file = hospital.connection.file
    known = file.read_text()
    file.write_text(known + 'must_not = "run"\n')
    refused("SMR-E467", hospital.connection.load)
    file.write_text(known.replace("format = 1", "format = 2"))
    refused("SMR-E467", hospital.connection.load)
    file.write_text("format = ")
    refused("SMR-E460", hospital.connection.load)
    file.write_text(known)
    assert tomllib.loads(known)["format"] == 1
    hospital.connection.load()


def test_a_registry_of_a_newer_version_is_refused(running: Federation) -> None:
    import sqlite3

    with sqlite3.connect(running.folder.registry) as db:
        db.execute("PRAGMA user_version = 9")
    refused("SMR-E592", Registry, running.folder.registry)


def test_a_fingerprint_is_what_people_can_read_aloud(running: Federation) -> None:
    connection = running.join(running.hospital(), running.token())
    assert re.fullmatch(r"([0-9a-f]{4}-){7}[0-9a-f]{4}", connection.coordinator)


def test_a_token_is_shown_to_no_log(running: Federation, caplog: pytest.LogCaptureFixture) -> None:
    token = running.token()
    caplog.set_level("DEBUG")
    running.join(running.hospital(), token)
    refused("SMR-E464", running.join, running.hospital("north", folder="thief"), token)
    assert caplog.text
    assert token.secret not in caplog.text
    assert token.secret not in repr(token)
    assert JoinToken.decode(token.encode()) == token
