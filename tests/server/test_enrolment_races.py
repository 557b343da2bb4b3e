"""A hospital that is revoked while it joins or changes keys is out, whatever the order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from enrolment_federation import COURIER, Federation, federation

from client.enrolment.joining import Joining
from client.enrolment.pinned import PinnedCoordinator
from client.enrolment.renewing import rotate_node_key, rotate_signing_key
from server.enrolment import enroller as enroller_module
from server.enrolment.key_files import is_revoked, key_file
from server.enrolment.registry import Registry
from server.enrolment.revoke import revoke
from shared_model.enrolment.messages import Offer, Welcome, raw_hex
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import create_signing_key


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Federation]:
    with federation(tmp_path) as made:
        yield made


def then_revoked(running: Federation, act: Callable[..., object]) -> Callable[..., object]:
    """``act``, right after which somebody revokes the hospital; once."""
    told: list[bool] = []

    def acts(*arguments: object, **options: object) -> object:
        done = act(*arguments, **options)
        if not told:
            told.append(True)
            revoke(running.folder, running.nodes, "north", "left")
        return done

    return acts


def assert_out(running: Federation) -> None:
    """The registry, the folder that runs read, and the SuperLink agree that it is out."""
    site = running.registry.site("north")
    assert site is not None
    assert site.state == "revoked"
    assert is_revoked(running.folder.site_keys, "north")
    assert not key_file(running.folder.site_keys, "north").exists()
    assert set(running.nodes.known) <= set(running.nodes.gone)


@pytest.mark.parametrize("step", ["bind", "_register", "_forget"])
def test_a_site_that_is_revoked_while_it_joins_stays_out(
    running: Federation, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Registry if step == "bind" else enroller_module.Enroller
    monkeypatch.setattr(owner, step, then_revoked(running, getattr(owner, step)))
    with pytest.raises(SmrfedError) as raised:
        running.join(running.hospital(), running.token())
    assert raised.value.code == "SMR-E464"
    assert_out(running)


@pytest.mark.parametrize("step", ["_enrolled", "_register", "_forget"])
def test_a_site_that_is_revoked_while_it_changes_its_node_key_stays_out(
    running: Federation, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = running.hospital()
    running.join(hospital, running.token())
    owner = enroller_module.Enroller
    monkeypatch.setattr(owner, step, then_revoked(running, getattr(owner, step)))
    with pytest.raises(SmrfedError) as raised:
        rotate_node_key(hospital)
    assert raised.value.code == "SMR-E464"
    assert_out(running)


@pytest.mark.parametrize("cut_off_before", [False, True])
def test_a_site_that_is_revoked_while_it_changes_its_signing_key_stays_out(
    running: Federation, cut_off_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``cut_off_before``: the coordinator had agreed already, and the hospital asks once more."""
    hospital = running.hospital()
    running.join(hospital, running.token())
    if cut_off_before:
        with monkeypatch.context() as patch:
            patch.setattr("client.enrolment.renewing.replace_key", _cut_off)
            with pytest.raises(KeyboardInterrupt):
                rotate_signing_key(hospital)
    owner = enroller_module.Enroller
    monkeypatch.setattr(owner, "_require_fresh", then_revoked(running, owner._require_fresh))
    with pytest.raises(SmrfedError) as raised:
        rotate_signing_key(hospital)
    assert raised.value.code == "SMR-E464"
    assert_out(running)


@pytest.mark.parametrize("changed", ["courier_sha256", "coordinator_key"])
def test_what_a_person_agreed_to_is_what_is_written_down(
    running: Federation, changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator that offers one thing and welcomes with another is refused."""
    key = create_signing_key(tmp_path / "other.pem").public_key()
    other = {"courier_sha256": (COURIER, "cd" * 32), "coordinator_key": raw_hex(key)}
    asked = PinnedCoordinator.ask

    def two_faced(self: PinnedCoordinator, action: str, *rest: object) -> object:
        answer: object = asked(self, action, *rest)  # type: ignore[arg-type]
        if isinstance(answer, Welcome):
            return answer.model_copy(update={changed: other[changed]})
        assert isinstance(answer, Offer)
        return answer

    monkeypatch.setattr(PinnedCoordinator, "ask", two_faced)
    hospital = running.hospital()
    with pytest.raises(SmrfedError) as raised:
        running.join(hospital, running.token())
    assert raised.value.code == "SMR-E469"
    assert not hospital.connection.file.exists()
    assert not hospital.coordinator_key.exists()


def test_an_authority_that_is_no_certificate_is_refused_by_number(
    running: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = running.hospital()
    joining = Joining.begin(hospital, running.token())
    offer = joining.look()
    asked = PinnedCoordinator.ask

    def garbled(self: PinnedCoordinator, action: str, *rest: object) -> object:
        answer: object = asked(self, action, *rest)  # type: ignore[arg-type]
        assert isinstance(answer, Welcome)
        return answer.model_copy(update={"authority": "no certificate"})

    monkeypatch.setattr(PinnedCoordinator, "ask", garbled)
    with pytest.raises(SmrfedError) as raised:
        joining.join(joining.node_key(), None, offer)
    assert raised.value.code == "SMR-E469"


def _cut_off(*_: object) -> None:
    raise KeyboardInterrupt
