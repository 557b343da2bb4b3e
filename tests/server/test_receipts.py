"""The coordinator's receipts: one per reply, acknowledged to the site, the same after a restart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_federation import (
    COORDINATOR_KEY,
    Answer,
    Fault,
    ToySite,
    ToyTransport,
    key_of,
    make_plan,
    make_run,
    read,
    site_keys,
)
from typer.testing import CliRunner

from server.checkpoints.run_directory import RunDirectory
from server.cli import app
from server.receipts.book import FILE, ReceiptBook
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.settings import DriverSettings
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import decode_arrays
from shared_model.protocol.keys import create_signing_key
from shared_model.protocol.sealed import Sealed
from shared_model.protocol.statement import Statement

NAMES = ("a", "b", "c")
QUICK = DriverSettings.in_process()


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.5)


def drive(
    run: RunDirectory, transport: ToyTransport, settings: DriverSettings = QUICK
) -> RunResult:
    time = FakeTime()
    keys = site_keys(run.plan)
    driver = RoundDriver(
        run.plan, run, transport, COORDINATOR_KEY, keys, settings=settings,
        clock=time.clock, sleep=time.sleep,
    )  # fmt: skip
    return driver.run()


def test_every_reply_has_a_receipt_and_the_next_instruction_signs_for_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_plan(*NAMES))
    transport = ToyTransport(*NAMES)
    drive(run, transport)
    lines = ReceiptBook(run.path).read()
    assert len(lines) == len(NAMES) * (run.plan.training.rounds + 1)
    assert all(line.authentic and line.received.accepted for line in lines)
    seen = {(r.received.site, r.received.round, r.received.kind): r.received for r in lines}
    for site, message in transport.pushed:
        asked = read(message)
        if asked.round == 1 and asked.kind == "train":
            assert asked.acknowledged is None
            continue
        said = asked.acknowledged
        assert said is not None
        said.verify(COORDINATOR_KEY.public_key())
        before = asked.round if asked.kind == "finalise" else asked.round - 1
        assert said.canonical_json == seen[site, before, "train"].canonical_json


def refusing(code: str) -> Fault:
    def fault(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        asked = read(message)
        if asked.kind == "finalise" or asked.round != 2:
            return reply
        if code == "SMR-E515":
            return site.sign(message, {"raw.embeddings": decode_arrays(message.body)["head.bias"]})
        return Sealed(reply.header, reply.body, bytes(64))

    return fault


@pytest.mark.parametrize("code", ["SMR-E515", "SMR-E113"])
def test_refused_replies_have_receipts_too(tmp_path: Path, code: str) -> None:
    run = make_run(tmp_path / "run", make_plan(*NAMES))
    transport = ToyTransport(*NAMES, faults={"b": refusing(code)})
    drive(run, transport)
    refused = [line for line in ReceiptBook(run.path).read() if not line.received.accepted]
    # Asked again, an inauthentic answer is the same bytes: one receipt.
    assert [(r.received.site, r.received.round, r.received.code) for r in refused] == [
        ("b", 2, code)
    ]
    authentic = code == "SMR-E515"
    assert refused[0].authentic == authentic
    (said,) = [
        read(message).acknowledged
        for site, message in transport.pushed
        if site == "b" and read(message).round == 3 and read(message).kind == "train"
    ]
    assert said is not None
    # Only what was the site's own word is acknowledged, with the number that refused it.
    assert (said.round, said.accepted, said.code) == (
        (2, False, code) if authentic else (1, True, None)
    )


def test_a_restarted_coordinator_sends_the_same_bytes(tmp_path: Path) -> None:
    class Dying(ToyTransport):
        def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
            if (
                site == "b"
                and read(message).round == 3
                and not any(s == "b" and read(m).round == 3 for s, m in self.pushed)
            ):
                self.pushed.append((site, message))
                raise KeyboardInterrupt
            return super().push(site, message, time_to_live_s)

    run = make_run(tmp_path / "run", make_plan(*NAMES))
    transport = Dying(*NAMES)
    with pytest.raises(KeyboardInterrupt):
        drive(run, transport)
    interrupted = drive(RunDirectory.open(run.path), transport)
    again = make_run(tmp_path / "again", make_plan(*NAMES))
    undisturbed = drive(again, ToyTransport(*NAMES))
    assert interrupted.body == undisturbed.body
    asked = {m for s, m in transport.pushed if s in "ab" and read(m).round == 3}
    assert len([m for m in asked if read(m).kind == "train"]) == 2
    lines = ReceiptBook(run.path).read()
    assert len(lines) == len({line.received for line in lines}) == len(NAMES) * 5


def closed_until(rounds: dict[str, int]) -> Fault:
    """A site whose door is closed for so many questions."""

    def fault(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        if rounds.get(site.name, 0) > 0:
            rounds[site.name] -= 1
            return Failure("SMR-E360: not at this hour", "SMR-E360")
        return reply

    return fault


def test_a_closed_site_is_absent_and_takes_part_again_when_it_opens(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_plan(*NAMES, federation={"min_sites": 2}))
    transport = ToyTransport(*NAMES, faults={"b": closed_until({"b": 2})})
    settings = DriverSettings(absent_grace_s=10, retry_interval_s=1)
    result = drive(run, transport, settings)
    first, second, third, fourth = result.history
    assert first.set_aside == {"b": "SMR-E360 SMR-E360: not at this hour"}
    assert first.absent == second.absent == ("b",)
    assert first.seconds < 30 > second.seconds
    assert third.accepted == fourth.accepted == NAMES


def test_a_quorum_waits_out_the_night_without_losing_attempts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_plan(*NAMES, federation={"min_sites": 3}))
    closed = {"a": 100, "b": 100}
    faults = dict.fromkeys("ab", closed_until(closed))
    settings = DriverSettings(round_attempts=1, later_interval_s=60)
    result = drive(run, ToyTransport(*NAMES, faults=faults), settings)
    assert result.history[0].accepted == NAMES
    assert result.history[0].attempts > 50
    # A failure that is not the clock's still ends the run.
    other = make_run(tmp_path / "other", make_plan(*NAMES, federation={"min_sites": 3}))
    faults = {
        "a": closed_until({"a": 10**9}),
        "b": lambda *_: Failure("SMR-E302: spent", "SMR-E302"),
    }
    with pytest.raises(SmrfedError, match="SMR-E520"):
        drive(other, ToyTransport(*NAMES, faults=faults), settings)
    # And so does a door that never opens.
    third = make_run(tmp_path / "third", make_plan(*NAMES, federation={"min_sites": 3}))
    faults = {"a": closed_until({"a": 10**9})}
    patient = settings.model_copy(update={"later_patience_s": 3600.0})
    with pytest.raises(SmrfedError, match="SMR-E520"):
        drive(third, ToyTransport(*NAMES, faults=faults), patient)


def test_altered_or_unwritable_receipts_stop_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_plan(*NAMES))
    drive(run, ToyTransport(*NAMES))
    path = run.path / FILE
    path.write_text(path.read_text().replace('"accepted":true', '"accepted":false', 1))
    with pytest.raises(SmrfedError, match="SMR-E561"):
        ReceiptBook(run.path).read()
    other = make_run(tmp_path / "other", make_plan(*NAMES))
    (other.path / (FILE + ".head")).mkdir()
    with pytest.raises(SmrfedError, match="SMR-E560"):
        drive(other, ToyTransport(*NAMES))


def test_the_command_shows_and_exports_what_was_received(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_plan(*NAMES))
    drive(run, ToyTransport(*NAMES, faults={"b": refusing("SMR-E515")}))
    key = create_signing_key(tmp_path / "key.pem")
    arguments = ["receipts", str(run.path), "--site", "b"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "15 receipts, chain verified" in shown.stdout
    assert "SMR-E515" in shown.stdout
    file = tmp_path / "b.json"
    done = CliRunner().invoke(
        app, [*arguments, "--export", str(file), "--key", str(tmp_path / "key.pem"), "--json"]
    )
    assert len(json.loads(done.stdout)) == 5
    statement = Statement.load(file, key.public_key())
    assert statement.site == "b"
    assert {r.site for r in statement.received} == {"b"}
    assert [r.code for r in statement.received if not r.accepted] == ["SMR-E515"]
    with pytest.raises(SmrfedError, match="SMR-E367"):
        Statement.load(file, key_of("a").public_key())
