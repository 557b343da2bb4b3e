"""Secure sums in the round driver: exact, dropouts in every phase, void rounds, kills, hostiles."""

from __future__ import annotations

from pathlib import Path

import pytest
from masked_toys import HONEST, MaskedToys, dead, silent

from server.rounds.events import Event
from server.rounds.settings import DriverSettings
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.protocol.messages import RoundInstruction
from shared_model.protocol.sealed import Sealed


class KilledError(Exception):
    pass


def test_the_parameters_follow_the_plain_sum_of_integers(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f", sections={"training": {"rounds": 4}})
    result = toys.drive()
    assert result.body == toys.expected()
    assert [kind for site, kind, number in toys.asked if site == "a"] == [
        "keys", "shares", "train", "unmask", "train", "unmask", "train", "unmask", "train",
        "unmask", "finalise",
    ]  # fmt: skip
    assert all(record.void is None for record in result.history)
    assert [one.kind for one in result.history[0].around] == ["keys", "shares", "unmask"]
    for name in toys.names:
        assert not (toys.folder / name / "state" / "masks" / "toy-sums").exists()


def test_a_new_block_begins_when_its_rounds_are_over(tmp_path: Path) -> None:
    terms = {"secure_aggregation": {"rounds_per_setup": 2}}
    toys = MaskedToys(tmp_path / "f", sections=terms)
    assert toys.drive().body == toys.expected()
    assert {(kind, number) for _, kind, number in toys.asked if kind in ("keys", "shares")} == {
        ("keys", 1), ("shares", 1), ("keys", 3), ("shares", 3),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["keys", "shares", "train"])
def test_a_site_that_is_silent_before_its_vector_is_left_out(tmp_path: Path, kind: str) -> None:
    toys = MaskedToys(tmp_path / "f")
    result = toys.drive(dead("b", kind, 1))
    left = {"a", "c", "d"}
    assert result.body == toys.expected({1: left, 2: left, 3: left})
    assert all("b" in record.set_aside for record in result.history)
    assert all(record.void is None for record in result.history)


def test_a_site_that_is_silent_after_its_vector_is_still_in_the_sum(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f")
    result = toys.drive(dead("b", "unmask", 1))
    left = {"a", "c", "d"}
    assert result.body == toys.expected({2: left, 3: left})


def test_a_site_that_comes_back_is_in_the_sums_again(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f", sections={"training": {"rounds": 5}})
    result = toys.drive(silent(("b", "keys", 1), ("b", "train", 1)))
    left = {"a", "c", "d"}
    assert result.body == toys.expected({1: left, 2: left, 3: left})
    assert ("b", "keys", 4) in toys.asked


@pytest.mark.parametrize(
    ("kind", "code"), [("keys", "E137"), ("shares", "E137"), ("train", "E137"), ("unmask", "E138")]
)
def test_a_round_with_too_few_sites_is_void_and_the_next_one_counts(
    tmp_path: Path, kind: str, code: str
) -> None:
    toys = MaskedToys(tmp_path / "f")
    result = toys.drive(silent(("a", kind, 1), ("b", kind, 1)))
    first, *others = result.history
    assert first.void is not None
    assert code in first.void
    assert first.accepted == ()
    assert [record.void for record in others] == [None, None]
    assert result.body == toys.expected({1: ()})
    assert ("round_void", 1) in [(event.kind, event.round) for event in toys.events]


def test_too_many_void_rounds_in_a_row_stop_the_run_which_goes_on_later(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f")
    settings = DriverSettings.in_process().model_copy(
        update={"poll_interval_s": 1.0, "void_rounds": 2}
    )
    gone = [(site, kind, n) for site in "ab" for kind in ("keys", "train") for n in (1, 2)]
    with pytest.raises(SmrfedError, match="SMR-E562"):
        toys.drive(silent(*gone), settings=settings)
    assert toys.run.latest().round == 2
    assert toys.drive().body == toys.expected({1: (), 2: ()})


PHASES = [
    (kind, event) for kind in ("keys", "shares", "train", "unmask")
    for event in ("round_started", "site_accepted")
]  # fmt: skip


@pytest.mark.parametrize(("kind", "event_kind"), [*PHASES, ("train", "round_saved")])
def test_a_coordinator_killed_in_any_phase_goes_on_to_the_same_bits(
    tmp_path: Path, kind: str, event_kind: str
) -> None:
    toys = MaskedToys(tmp_path / "f", sections={"secure_aggregation": {"rounds_per_setup": 1}})

    def kill(event: Event) -> None:
        if (event.kind, event.phase, event.round) == (event_kind, kind, 2):
            raise KilledError

    with pytest.raises(KilledError):
        toys.drive(observer=kill)
    for name in toys.names:
        toys.kill(name)
    assert toys.drive().body == toys.expected()
    # Whatever was asked twice was the same question.
    assert {place: len(bytes_) for place, bytes_ in toys.sent.items() if len(bytes_) > 1} == {}


def test_survivors_stay_the_same_for_a_coordinator_that_comes_back(tmp_path: Path) -> None:
    """``b`` was too late; after the restart it could answer, and still is not in this sum."""
    toys = MaskedToys(tmp_path / "f")

    def kill(event: Event) -> None:
        if (event.kind, event.phase, event.round) == ("site_accepted", "unmask", 2):
            raise KilledError

    with pytest.raises(KilledError):
        toys.drive(silent(("b", "train", 2)), kill)
    result = toys.drive()
    assert result.body == toys.expected({2: {"a", "c", "d"}})
    assert {place: len(sent) for place, sent in toys.sent.items() if len(sent) > 1} == {}


@pytest.mark.parametrize("kind", ["keys", "shares", "train", "unmask"])
def test_an_agent_restarted_after_its_answer_gives_the_same_bytes(
    tmp_path: Path, kind: str
) -> None:
    toys = MaskedToys(tmp_path / "f")
    answers: list[bytes] = []

    def restart(site: str, header: RoundInstruction, message: Sealed) -> Sealed | Failure | None:
        if (site, header.kind, header.round) == ("b", kind, 1):
            answers.append(toys.agent("b").handle(message).digest)
            toys.kill("b")
            answers.append(toys.agent("b").handle(message).digest)
            toys.kill("b")
        return HONEST

    assert toys.drive(restart).body == toys.expected()
    assert len(set(answers)) == 1
    assert len(answers) == 2


def test_central_noise_is_added_once_and_kept(tmp_path: Path) -> None:
    """Killed after the noise was drawn: the same noised sum is used, not drawn again."""
    toys = MaskedToys(tmp_path / "f", mode="central")

    def kill(event: Event) -> None:
        if (event.kind, event.round) == ("round_saved", 2):
            raise KilledError

    with pytest.raises(KilledError):
        toys.drive(observer=kill)
    before = toys.run.latest().body
    newest = toys.run.path / "rounds" / "00002" / "state.json"
    newest.write_text("damaged")  # the coordinator falls back to round 1
    result = toys.drive()
    again = (toys.run.path / "rounds" / "00002" / "global.safetensors").read_bytes()
    assert again == before
    assert result.body != toys.expected()
    assert not list((toys.run.path / "masked").glob("collected-*"))


def test_the_ledger_charges_vectors_and_nothing_else(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f")
    toys.drive()
    for name in toys.names:
        toys.kill(name)
        entries = toys.agent(name).ledger.entries()
        assert [(entry.purpose, entry.round) for entry in entries] == [
            ("train", 1), ("train", 2), ("train", 3),
        ]  # fmt: skip


def test_a_key_that_is_not_the_plans_is_refused_at_the_start(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f")
    toys.keys["b"] = toys.coordinator.public_key()
    with pytest.raises(SmrfedError, match="SMR-E563"):
        toys.drive()


def test_a_damaged_file_of_the_sums_stops_the_run(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f")
    with pytest.raises(KilledError):
        toys.drive(observer=lambda event: _raise(event, "unmask"))
    (file,) = (toys.run.path / "masked").glob("collected-*")
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(SmrfedError, match="SMR-E564"):
        toys.drive()


def _raise(event: Event, phase: str) -> None:
    if event.phase == phase:
        raise KilledError


def test_whole_hospitals_are_hidden_on_the_same_path(tmp_path: Path) -> None:
    toys = MaskedToys(
        tmp_path / "f",
        sections={
            "privacy": {"unit": "hospital"},
            "federation": {"weighting": "equal"},
            "training": {"rounds": 1},
        },
    )
    result = toys.drive(silent(("c", "train", 1)))
    assert result.body == toys.expected({1: {"a", "b", "d"}})
