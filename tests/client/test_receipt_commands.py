"""``smrfed-site receipts`` and ``policy``: what left, and what the coordinator says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_plan_only import small_budget_plan
from test_site_cli import write_plan
from typer.testing import CliRunner

from client.agent.replies import Question, ReplyStore
from client.agent.sent_archive import SentArchive
from client.agent.state import StateFolder
from client.cli import app
from client.commands.templates import POLICY_TOML, site_toml
from client.egress.acknowledgements import Acknowledgements
from client.egress.gate import EgressGate
from client.egress.policy import SitePolicy
from client.egress.receipts import Receipts
from client.egress.refusals import Refusals, Refused
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
from shared_model.privacy.accounting import MechanismUse
from shared_model.protocol.acknowledgement import Received, countersign
from shared_model.protocol.arrays import body_digest, encode_arrays
from shared_model.protocol.keys import create_signing_key
from shared_model.protocol.messages import RoundReply
from shared_model.protocol.sealed import Sealed, seal
from shared_model.protocol.statement import Statement

PLAN = small_budget_plan()
ROUNDS = 5


class Site:
    """A hospital that answered five rounds; no torch."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.config = folder / "site.toml"
        self.config.write_text(site_toml("a"))
        (folder / "policy.toml").write_text(POLICY_TOML)
        self.coordinator = create_signing_key(folder / "coordinator")
        (folder / "coordinator.pub").rename(folder / "coordinator.pub.tmp")
        (folder / "coordinator.pub.tmp").rename(folder / "coordinator.pub")
        self.state = StateFolder(folder / "state")
        self.key = create_signing_key(self.state.key)
        self.receipts = Receipts(self.state.receipts)
        self.gate = EgressGate(SitePolicy(), self.receipts)
        self.ledger = Ledger(self.state.ledger)
        self.store = ReplyStore(self.state.replies, archive=SentArchive(self.state.sent, 1 << 20))
        self.replies = {number: self.answer(number) for number in range(1, ROUNDS + 1)}

    def answer(self, number: int) -> Sealed:
        arrays = {
            "head.bias": np.array([0.5, -0.25, 0.0], np.float32) * np.float32(number),
            "head.weight": np.full((3, 4), 0.001, np.float32),
        }
        body = encode_arrays(arrays)
        header = RoundReply(
            run_id="run-1",
            round=number,
            kind="train",
            site="a",
            plan_digest=PLAN.digest,
            body_sha256=body_digest(body),
            instruction_sha256=f"{number:064x}",
        )
        shapes = {name: value.shape for name, value in arrays.items()}
        # Cheap, so that five rounds stay within the budget: what left must have been charged.
        charged = self.ledger.reserve(
            "run-1", number, PLAN, MechanismUse(100.0, 1.0, 1), patients=["p"]
        )
        self.ledger.commit(charged)
        self.gate.release(header, arrays, PLAN, shapes, epsilon_after=0.5)
        question = Question("run-1", number, "train", f"{number:064x}")
        reply = seal(header.canonical_json, body, self.key)
        self.store.claim(question)
        self.store.save(question, reply)
        self.ledger.seal(charged, reply.digest.hex())
        return reply

    def received(self, number: int, **changes: Any) -> Received:
        fields = {
            "run_id": "run-1",
            "round": number,
            "kind": "train",
            "site": "a",
            "reply_sha256": self.replies[min(number, ROUNDS)].digest.hex(),
            "accepted": True,
        }
        return Received.model_validate(fields | changes)

    def acknowledge(self, number: int) -> None:
        book = Acknowledgements(
            self.state.acknowledgements, self.coordinator.public_key(), self.receipts
        )
        book.record(countersign(self.received(number), self.coordinator), "a")

    def statement(self, *received: Received, key: Ed25519PrivateKey | None = None) -> Path:
        path = self.folder / "statement.json"
        statement = Statement(
            run_id="run-1",
            plan_digest=PLAN.digest,
            site="a",
            written_at="2026-11-21T12:00:00+00:00",
            receipts=len(received),
            head="0" * 64,
            received=received,
        )
        path.write_bytes(statement.signed(key or self.coordinator).encode())
        return path

    def run(self, *arguments: str | Path) -> Result:
        words = [*map(str, arguments), "-c", str(self.config)]
        return CliRunner().invoke(app, words)

    def read(self, *arguments: str | Path) -> Any:
        done = self.run(*arguments, "--json")
        assert done.exception is None, done.exception
        return json.loads(done.stdout)

    def code(self, *arguments: str | Path) -> str:
        error = self.run(*arguments).exception
        assert isinstance(error, SmrfedError), error
        return error.code


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def test_the_list_says_what_left_and_what_was_confirmed(site: Site) -> None:
    site.acknowledge(1)
    Refusals(site.state.refusals).note(Refused(code="SMR-E401", signed=True, bytes=12))
    for words in (("receipts",), ("receipts", "list")):
        assert [r["decision"]["round"] for r in site.read(*words)] == [1, 2, 3, 4, 5]
        shown = site.run(*words).stdout
        assert "5 receipts, chain verified" in shown
        assert "1 lines on refused instructions" in shown
    refused = site.read("receipts", "refused")
    assert [line["refused"]["code"] for line in refused] == ["SMR-E401"]
    assert "SMR-E401" in site.run("receipts", "refused").stdout


def test_every_byte_that_left_can_be_shown_also_when_the_round_is_long_over(
    site: Site, tmp_path: Path
) -> None:
    # The reply store keeps three; the others were moved to the archive.
    assert len(list(site.state.replies.glob("*/*.reply"))) == 3
    for number in range(1, ROUNDS + 1):
        shown = site.read("receipts", "show", str(number))
        assert shown["header"] == json.loads(site.replies[number].header)
        bias = shown["arrays"][0]
        assert (bias["name"], bias["shape"], bias["bytes"]) == ("head.bias", [3], 12)
        assert (bias["largest"], bias["smallest"]) == (0.5 * number, -0.25 * number)
        assert bias["norm"] == pytest.approx(number * np.sqrt(0.3125))
    folder = tmp_path / "exported"
    done = site.run("receipts", "show", "1", "--export", folder)
    assert "digests and signature verified" in done.stdout
    reply = site.replies[1]
    assert (folder / "header.json").read_bytes() == reply.header
    assert (folder / "body.safetensors").read_bytes() == reply.body
    assert (folder / "signature.ed25519").read_bytes() == reply.signature
    assert site.code("receipts", "show", "6") == "SMR-E369"
    facts = site.read("receipts", "verify")
    assert (facts["released"], facts["copies_verified"]) == (5, 5)


def test_a_copy_that_is_not_what_left_is_told(site: Site) -> None:
    copy = site.state.replies / "run-1" / "0000004-train.reply"
    data = bytearray(copy.read_bytes())
    data[-70] ^= 1
    copy.write_bytes(data)
    assert site.code("receipts", "show", "4") == "SMR-E407"
    assert site.code("receipts", "verify") == "SMR-E407"
    # A whole and well-made reply of another round is not this one either.
    other = site.state.replies / "run-1" / "0000005-train.reply"
    copy.write_bytes(other.read_bytes())
    assert site.code("receipts", "show", "4") == "SMR-E369"
    # Nor is one that another key signed.
    forged = seal(site.replies[5].header, site.replies[5].body, Ed25519PrivateKey.generate())
    site.store.save(Question("run-1", 5, "train", f"{5:064x}"), forged)
    assert site.code("receipts", "show", "5") == "SMR-E407"


def test_copies_are_kept_up_to_the_limit_oldest_first(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "replies", archive=SentArchive(tmp_path / "sent", 3000))
    key = Ed25519PrivateKey.generate()
    for number in range(1, 12):
        question = Question("run-1", number, "train", "a" * 64)
        store.claim(question)
        store.save(question, seal(b"header", bytes(800), key))
    kept = sorted(path.name for path in (tmp_path / "sent" / "run-1").glob("*"))
    assert kept == [f"{n:07d}-train.reply" for n in (6, 7, 8)]
    # Where nothing can be kept, the answer goes as before.
    (tmp_path / "file").write_text("")
    full = ReplyStore(tmp_path / "others", keep=1, archive=SentArchive(tmp_path / "file", 10))
    for number in (1, 2):
        full.save(Question("run-1", number, "train", "a" * 64), seal(b"h", b"b", key))
    assert [p.name for p in (tmp_path / "others" / "run-1").glob("*")] == ["0000002-train.reply"]


Change = Callable[[Site], list[Received]]
DIFFERENCES: dict[str, tuple[Change, set[tuple[int, str]]]] = {
    "the same": (lambda s: [s.received(n) for n in range(1, 6)], set()),
    "lost": (lambda s: [s.received(n) for n in (1, 2, 4, 5)], {(3, "never received")}),
    "invented": (
        lambda s: [s.received(n) for n in range(1, 7)],
        {(6, "never sent")},
    ),
    "other bytes": (
        lambda s: [*(s.received(n) for n in (1, 2, 3, 4)), s.received(5, reply_sha256="ab" * 32)],
        {(5, "another reply")},
    ),
    "another site's": (
        lambda s: [*(s.received(n) for n in range(1, 6)), s.received(9, site="b")],
        set(),
    ),
    "another run's": (
        lambda s: [*(s.received(n) for n in range(1, 6)), s.received(9, run_id="run-2")],
        set(),
    ),
}


@pytest.mark.parametrize("name", sorted(DIFFERENCES))
def test_both_sides_are_held_against_each_other(site: Site, name: str) -> None:
    change, expected = DIFFERENCES[name]
    path = site.statement(*change(site))
    done = site.run("receipts", "reconcile", path, "--json")
    found = json.loads(done.stdout)["differences"]
    assert {(d["round"], d["what"]) for d in found} == expected
    assert (done.exception is None) == (not expected)
    if expected:
        assert site.code("receipts", "reconcile", path) == "SMR-E368"


def test_a_refused_reply_is_told_and_a_receipt_that_was_taken_back_is_a_difference(
    site: Site,
) -> None:
    refused = site.received(2, accepted=False, code="SMR-E518")
    rest = [site.received(n) for n in (1, 3, 4, 5)]
    found = site.read("receipts", "reconcile", site.statement(refused, *rest))["differences"]
    assert [(d["round"], d["what"], d["code"]) for d in found] == [(2, "refused there", "SMR-E518")]
    site.acknowledge(1)
    path = site.statement(refused, *rest[1:])
    done = site.run("receipts", "reconcile", path, "--json")
    found = json.loads(done.stdout)["differences"]
    assert {d["what"] for d in found if d["round"] == 1} == {"never received", "taken back"}


def test_only_the_coordinators_word_on_this_site_is_compared(site: Site) -> None:
    path = site.statement(site.received(1), key=Ed25519PrivateKey.generate())
    assert site.code("receipts", "reconcile", path) == "SMR-E367"
    other = Statement.model_validate_json(path.read_bytes()).model_copy(update={"site": "b"})
    path.write_bytes(other.signed(site.coordinator).encode())
    assert site.code("receipts", "reconcile", path) == "SMR-E367"


def test_an_acknowledgement_is_kept_once_and_must_be_true(site: Site) -> None:
    for _ in range(3):
        site.acknowledge(2)
    key = site.coordinator.public_key()
    book = Acknowledgements(site.state.acknowledgements, key, site.receipts)
    assert [line.acknowledgement.round for line in book.read()] == [2]
    shown = site.run("receipts").stdout
    assert (shown.count("yes"), shown.count("not yet")) == (1, 4)
    for lie in (
        site.received(3, reply_sha256="ab" * 32),
        site.received(3, round=4),
        site.received(3, run_id="run-2"),
        site.received(3, site="b"),
    ):
        with pytest.raises(SmrfedError, match="SMR-E366"):
            book.record(countersign(lie, site.coordinator), "a")
    with pytest.raises(SmrfedError, match="SMR-E366"):
        book.record(countersign(site.received(3), Ed25519PrivateKey.generate()), "a")
    path = site.state.acknowledgements
    path.write_text(path.read_text().replace('"accepted":true', '"accepted":false'))
    assert site.code("receipts", "verify") == "SMR-E326"


NO_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "monai", "opacus", "torch_geometric", "flwr", "grpc"):
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, NoTorch())
from client.cli import app
for words in sys.argv[1:]:
    print("exit", app(words.split("|"), standalone_mode=False) or 0)
"""


def test_policy_check_explains_without_torch_and_ends_with_its_answer(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = write_plan(PLAN, tmp_path / "plan.toml")
    config = ["-c", str(site.config)]
    commands = [
        ["policy", "check", str(plan), *config],
        ["receipts", "show", "1", *config],
        ["receipts", "verify", *config],
        ["receipts", "reconcile", str(site.statement(*(site.received(n) for n in range(1, 6)))),
         *config],
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, *map("|".join, commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    exits = [line for line in done.stdout.splitlines() if line.startswith("exit ")]
    # The plan's groups do not fit its model, which only building it can tell.
    assert exits == ["exit 1", "exit 0", "exit 0", "exit 0"], done.stderr
    for words in ("the plan is refused by this policy", "needs a person", "SMR-E305"):
        assert words in done.stdout
    (site.folder / "policy.toml").write_text('modes = ["none"]\nmax_epsilon = 1.0\n')
    # As where the training stack is not installed.
    monkeypatch.setattr("client.commands.policy.outgoing_arrays", lambda *_: None)
    refused = site.run("policy", "check", plan, "--json")
    assert refused.exit_code == 1
    answer = json.loads(refused.stdout)
    assert not answer["allowed"]
    codes = {line["code"] for line in answer["lines"]} - {None}
    assert codes == {"SMR-E311", "SMR-E312"}
    assert not site.state.plans.exists()
