"""What a dead, slow or returning site costs, in seconds of a clock that tests turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from driver_runs import FakeTime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timed_sites import Health, TimedSites, Weather, well
from toy_federation import COORDINATOR_KEY, ToyTransport, make_plan, make_run, read, site_keys

from server.checkpoints.run_directory import RunDirectory
from server.receipts.book import ReceiptBook
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.events import Event
from server.rounds.settings import DriverSettings
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan

PACE = {"a": 60.0, "b": 45.0, "c": 50.0, "d": 70.0}
DEADLINE = 3600.0
ROUNDS = 10


def plan_of(*names: str, **federation: object) -> FederationPlan:
    return make_plan(
        *names,
        training={"rounds": ROUNDS},
        federation={"round_deadline_s": DEADLINE, **federation},
    )


class Driven:
    """A run over timed sites, with its events."""

    def __init__(
        self,
        path: Path,
        pace_s: dict[str, float],
        weather: Weather = well,
        driver: DriverSettings | None = None,
        plan: FederationPlan | None = None,
    ) -> None:
        self.fake = FakeTime()
        self.plan = plan or plan_of(*pace_s)
        self.sites = TimedSites(self.fake, pace_s, weather)
        self.directory = make_run(path, self.plan)
        self.events: list[Event] = []
        start = self.fake.now
        self.result: RunResult = RoundDriver(
            self.plan,
            self.directory,
            self.sites,
            COORDINATOR_KEY,
            site_keys(self.plan),
            self.events.append,
            settings=driver or DriverSettings(poll_interval_s=5.0),
            clock=self.fake.clock,
            sleep=self.fake.sleep,
        ).run()
        self.seconds = self.fake.now - start

    def accepted(self, site: str) -> list[int]:
        return [r.round for r in self.result.history if site in r.accepted]


def dead_from_round_three(site: str, way: Health) -> Weather:
    return lambda name, elapsed, number: way if name == site and number >= 3 else "well"


@pytest.mark.parametrize("way", ["offline", "hung", "failing"])
@pytest.mark.parametrize("factor", [0.0, 4.0], ids=["whole deadline", "learned"])
def test_a_site_dead_from_round_three_costs_one_deadline_in_total(
    tmp_path: Path, way: Health, factor: float
) -> None:
    driver = DriverSettings(poll_interval_s=5.0, patience_factor=factor)
    undisturbed = Driven(tmp_path / "well", PACE, driver=driver)
    disturbed = Driven(tmp_path / "dead", PACE, dead_from_round_three("b", way), driver)
    assert disturbed.accepted("b") == [1, 2]
    for name in ("a", "c", "d"):
        assert disturbed.accepted(name) == list(range(1, ROUNDS + 1))
    assert disturbed.seconds - undisturbed.seconds <= DEADLINE
    # Waited for in one exchange at most; every other takes what the others take.
    late = [r.round for r in disturbed.result.history if r.seconds > 2 * max(PACE.values())]
    assert late in ([], [3])


def test_a_site_that_dies_after_three_answers_costs_its_own_pace_not_the_deadline(
    tmp_path: Path,
) -> None:
    def weather(name: str, elapsed: float, number: int) -> Health:
        return "hung" if name == "b" and number > 4 else "well"

    disturbed = Driven(tmp_path / "run", PACE, weather)
    assert disturbed.accepted("b") == [1, 2, 3, 4]
    record = disturbed.result.history[4]
    assert record.sites["b"].reason == "not waited for beyond 600 s, the quorum was in"
    assert record.seconds <= 605


@pytest.mark.parametrize("way", ["offline", "hung", "failing"])
def test_a_site_that_was_dead_for_a_while_is_fully_taken_back(tmp_path: Path, way: Health) -> None:
    def weather(name: str, elapsed: float, number: int) -> Health:
        return way if name == "b" and 3 <= number <= 6 else "well"

    driven = Driven(tmp_path / "run", PACE, weather)
    # Well again in round 7: at the latest its answer to round 7, too late to count, takes it back.
    assert driven.accepted("b") in ([1, 2, 7, 8, 9, 10], [1, 2, 8, 9, 10])
    assert "b" in driven.result.finalised.accepted
    # It is not made to train for rounds that are over: one that it held, at the most.
    trained = driven.sites.sites["b"].trained
    assert len([n for n in trained if n not in driven.accepted("b")]) <= 1


@pytest.mark.parametrize("way", ["offline", "hung", "failing"])
def test_a_returning_site_that_is_slower_than_the_others_is_taken_back_too(
    tmp_path: Path, way: Health
) -> None:
    def weather(name: str, elapsed: float, number: int) -> Health:
        return way if name == "b" and 3 <= number <= 4 else "well"

    driven = Driven(tmp_path / "run", {**PACE, "b": 300.0}, weather)
    # One that was not connected is waited for as soon as it is. Of the others nobody knows before
    # they answer, which takes four rounds of the faster ones; from then on they are waited for.
    back = [5, 6, 7, 8, 9, 10] if way == "offline" else [9, 10]
    assert driven.accepted("b") == [1, 2, *back]
    assert driven.result.history[9].seconds >= 300


def test_a_site_that_has_become_slow_misses_one_round_and_is_waited_for_again(
    tmp_path: Path,
) -> None:
    def weather(name: str, elapsed: float, number: int) -> Health:
        if number > 5:
            pace["b"] = 300.0
        return "well"

    pace = dict(PACE)
    driver = DriverSettings(poll_interval_s=5.0, least_patience_s=100.0)
    driven = Driven(tmp_path / "run", pace, weather, driver)
    assert driven.accepted("b") == [1, 2, 3, 4, 5, 8, 9, 10]
    (returned,) = [e for e in driven.events if e.kind == "site_returned"]
    assert (returned.site, returned.round) == ("b", 8)
    # Its late answer was received: the hospital gets a receipt that says it did not count.
    lines = [line.received for line in ReceiptBook(driven.directory.path).read()]
    late = [one for one in lines if (one.site, one.round) == ("b", 6)]
    assert [(one.accepted, one.code) for one in late] == [(False, "SMR-E503")]


def test_a_slow_site_is_never_dropped_for_being_slower_than_the_others(tmp_path: Path) -> None:
    driven = Driven(tmp_path / "run", {**PACE, "b": 3000.0})
    assert driven.accepted("b") == list(range(1, ROUNDS + 1))


def test_the_operator_sets_a_slow_site_a_longer_deadline(tmp_path: Path) -> None:
    pace = {**PACE, "b": 5000.0}
    without = Driven(tmp_path / "without", pace)
    assert without.accepted("b") == []
    driver = DriverSettings(poll_interval_s=5.0, site_deadline_s={"b": 6000.0})
    with_more = Driven(tmp_path / "with", pace, driver=driver)
    assert with_more.accepted("b") == list(range(1, ROUNDS + 1))


def test_a_shorter_deadline_of_one_site_leaves_the_others_theirs(tmp_path: Path) -> None:
    pace = {**PACE, "c": 400.0}
    driver = DriverSettings(poll_interval_s=5.0, site_deadline_s={"b": 100.0})
    weather = dead_from_round_three("b", "hung")
    driven = Driven(tmp_path / "run", pace, weather, driver)
    assert driven.result.history[2].sites["b"].reason == "no answer within 100 s"
    assert driven.accepted("c") == list(range(1, ROUNDS + 1))


def test_a_deadline_for_a_site_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SmrfedError, match="SMR-E525"):
        Driven(tmp_path / "run", PACE, driver=DriverSettings(site_deadline_s={"bb": 100.0}))


def test_a_quorum_of_patients_waits_for_the_large_hospital(tmp_path: Path) -> None:
    # Declared: a 10, b 17, c 24, d 31 patients.
    plan = plan_of(*PACE, min_patients=60)
    driver = DriverSettings(poll_interval_s=5.0, round_attempts=2)
    with pytest.raises(SmrfedError) as missed:
        Driven(tmp_path / "large", PACE, dead_from_round_three("d", "hung"), driver, plan)
    assert missed.value.code == "SMR-E520"
    assert "60 declared patients" in str(missed.value)
    assert "3 accepted with 51 patients" in str(missed.value)
    stopped = RunDirectory.open(tmp_path / "large").stopped()
    assert stopped is not None
    assert stopped.attempts == 2
    # Without the smallest there are 72: enough.
    driven = Driven(tmp_path / "small", PACE, dead_from_round_three("a", "hung"), driver, plan)
    assert driven.accepted("d") == list(range(1, ROUNDS + 1))


def test_an_outage_of_everybody_is_not_taken_for_the_death_of_everybody(tmp_path: Path) -> None:
    """All sites silent in one exchange: in the next one all are waited for."""

    def weather(name: str, elapsed: float, number: int) -> Health:
        return "hung" if 200 < elapsed < 4500 else "well"

    driven = Driven(tmp_path / "run", PACE, weather, DriverSettings(poll_interval_s=5.0))
    assert all(record.accepted for record in driven.result.history)
    assert driven.result.finalised.accepted == tuple(PACE)


def test_a_site_that_died_in_an_evaluation_is_not_waited_for_in_the_next_round(
    tmp_path: Path,
) -> None:
    """One deadline in total, whatever the site is asked."""
    from server.rounds.patience import patience
    from server.rounds.records import RoundRecord, SiteOutcome

    plan = plan_of("a", "b")
    silent = SiteOutcome(accepted=False, pushes=1, code="SMR-E503", reason="no answer")
    declined = SiteOutcome(accepted=False, pushes=5, code="SMR-E504", reason="SMR-E364")
    fine = SiteOutcome(accepted=True, pushes=1, reply_sha256="0" * 64)
    said = {"attempts": 1, "weight": 0, "started_at": "", "seconds": 1.0}
    train = RoundRecord(round=1, kind="train", sites={"a": fine, "b": fine}, **said)
    dead = RoundRecord(round=1, kind="evaluate", sites={"a": fine, "b": silent}, **said)
    unwilling = RoundRecord(round=1, kind="evaluate", sites={"a": fine, "b": declined}, **said)
    driver = DriverSettings()
    assert patience(plan, driver, "train", "ab", (train, dead))["b"].patience_s == 0
    # A site that declines evaluations is waited for in training as any other.
    assert patience(plan, driver, "train", "ab", (train, unwilling))["b"].patience_s == DEADLINE
    again = patience(plan, driver, "evaluate", "ab", (train, unwilling))["b"]
    assert again.patience_s == driver.returning_grace_s


@given(
    others=st.lists(st.floats(1, 900), min_size=1, max_size=12),
    fails_after=st.floats(0, 2),
    deadline=st.floats(1, 7200),
    grace=st.floats(0, 7200),
)
def test_however_slowly_a_site_fails_it_costs_one_deadline_in_all(
    others: list[float], fails_after: float, deadline: float, grace: float
) -> None:
    """A hung agent takes its courier's call: it is not silent, and it never answers."""
    from server.rounds.patience import patience
    from server.rounds.records import RoundRecord, SiteOutcome

    plan = plan_of("a", "b", round_deadline_s=deadline)
    driver = DriverSettings(returning_grace_s=grace)
    failed = SiteOutcome(accepted=False, pushes=2, code="SMR-E412", reason="no agent answers")
    history: tuple[RoundRecord, ...] = ()
    cost = 0.0
    for number, took in enumerate(others, start=1):
        fine = SiteOutcome(accepted=True, pushes=1, reply_sha256="0" * 64, seconds=took)
        given_s = patience(plan, driver, "train", "ab", history)["b"].patience_s
        seconds = max(took, min(given_s, fails_after * deadline))
        cost += seconds - took
        history += (
            RoundRecord(round=number, kind="train", sites={"a": fine, "b": failed}, attempts=1,
                        weight=1, started_at="", seconds=seconds),
        )  # fmt: skip
    assert cost <= deadline * (1 + 1e-9)
    # Its first answer, even a refused one, takes it back.
    back = SiteOutcome(accepted=False, pushes=1, code="SMR-E111", reply_sha256="1" * 64)
    answered = history[-1].model_copy(update={"sites": {"a": fine, "b": back}, "seconds": 1e6})
    again = answered.model_copy(
        update={"sites": {"a": fine, "b": failed}, "seconds": others[-1], "kind": "train"}
    )
    after = patience(plan, driver, "train", "ab", (*history, answered, again))["b"]
    assert after.patience_s == min(grace, deadline)


weathers = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.integers(1, 6)),
    st.sampled_from(["offline", "hung", "failing"]),
    max_size=9,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(faults=weathers, paces=st.lists(st.integers(1, 900), min_size=4, max_size=4))
def test_the_result_is_that_of_the_sites_that_counted_whatever_happened(
    tmp_path_factory: pytest.TempPathFactory, faults: dict, paces: list[int]
) -> None:
    """Law: the bits follow from who was accepted in which round, and from nothing else."""
    path = tmp_path_factory.mktemp("law")
    plan = make_plan(
        *"abcd", training={"rounds": 6}, federation={"round_deadline_s": 1000.0, "min_sites": 1}
    )
    pace = {name: float(p) for name, p in zip("abcd", paces, strict=True)}

    def weather(name: str, elapsed: float, number: int) -> Health:
        return faults.get((name, number), "well")

    driver = DriverSettings(poll_interval_s=5.0, attempt_pause_s=10.0)
    driven = Driven(path / "faulty", pace, weather, driver, plan)
    counted = {r.round: r.accepted for r in driven.result.history}

    def only_those(site, message, reply):
        asked = read(message)
        counts = asked.kind == "finalise" or site.name in counted[asked.round]
        return reply if counts else Failure("not in this round")

    undisturbed = RoundDriver(
        plan,
        make_run(path / "plain", plan),
        ToyTransport(*"abcd", faults=dict.fromkeys("abcd", only_those)),
        COORDINATOR_KEY,
        site_keys(plan),
        settings=DriverSettings(poll_interval_s=300.0),
        clock=(fake := FakeTime()).clock,
        sleep=fake.sleep,
    ).run()
    assert undisturbed.body == driven.result.body
    for name, toy in driven.sites.sites.items():
        assert len(toy.trained) == len(set(toy.trained)), name
