"""A hospital comes to a run that goes on: nothing changes for the others, and its update counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from driver_runs import FakeTime
from enrolment_federation import Federation, federation
from hypothesis import given
from hypothesis import strategies as st
from toy_federation import (
    COORDINATOR_KEY,
    ToySite,
    ToyTransport,
    initial_arrays,
    key_of,
    make_plan,
    make_run,
    read,
    site_keys,
)

from client.agent.instructions import admit_instruction
from client.enrolment.joining import Joining
from server.checkpoints.run_directory import RunDirectory
from server.enrolment.additions import add, additions, current_plan
from server.enrolment.invite import invite
from server.enrolment.key_files import publish_key, withdraw_key
from server.enrolment.members import Members
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.events import Event
from server.rounds.settings import DriverSettings
from server.rounds.transport import Failure
from shared_model.aggregation.update_bound import update_norm_bound
from shared_model.enrolment.addendum import Addendum, extended_plan
from shared_model.enrolment.messages import raw_hex
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan, SiteEntry
from shared_model.protocol.keys import create_signing_key
from shared_model.protocol.messages import RoundInstruction
from shared_model.protocol.sealed import Sealed

LATE = SiteEntry(name="late", declared_patients=31)
TAKES_NONE: dict[str, dict[str, dict[str, object]]] = {
    "control variates": {
        "aggregation": {"control_variates": True},
        "training": {"local_steps": 2},
    },
    "MR-MTL": {
        "aggregation": {"multi_task_lambda": 0.1},
        "adaptation": {"personalise": "never"},
    },
    "moments": {
        "adaptation": {"site_moments": "linear"},
        "groups": {"shared": ["head.*"]},
    },
}
TAKES_ONE: dict[str, dict[str, dict[str, object]]] = {
    "plain": {},
    "median": {
        "aggregation": {"rule": "median"},
        "federation": {"weighting": "equal", "min_sites": 3},
    },
    "adam": {
        "aggregation": {"server_optimizer": "adam"},
        "training": {"server_learning_rate": 0.1},
    },
    "private": {"privacy": {"mode": "local", "noise_multiplier": 1.0}},
}


def plan_of(sections: dict[str, dict[str, object]]) -> FederationPlan:
    return make_plan("a", "b", "c", **{name: dict(value) for name, value in sections.items()})


def addendum(run: RunDirectory, *sites: SiteEntry) -> Addendum:
    return Addendum.of(run.run_id, run.plan, sites, COORDINATOR_KEY)


class Run:
    """A toy run in which something happens when a round is saved."""

    def __init__(self, path: Path, plan: FederationPlan) -> None:
        self.directory = make_run(path / "run", plan)
        self.keys = path / "site-keys"
        self.transport = ToyTransport(*plan.weights, "late")
        for name in plan.weights:
            self.publish(name)

    @property
    def asked(self) -> list[RoundInstruction]:
        return [read(message) for _, message in self.transport.pushed]

    def publish(self, name: str) -> None:
        key = self.transport.sites[name].key.public_key()
        publish_key(self.keys, name, raw_hex(key))

    def add(self) -> Addendum:
        self.publish("late")
        made = addendum(self.directory, LATE)
        add(self.directory, made)
        return made

    def drive(self, after: dict[int, Callable[[], object]] | None = None) -> RunResult:
        def observe(event: Event) -> None:
            if event.kind == "round_saved" and after and event.round in after:
                after[event.round]()

        plan, fake = self.directory.plan, FakeTime()
        keys = site_keys(plan)
        return RoundDriver(
            plan,
            self.directory,
            self.transport,
            COORDINATOR_KEY,
            keys,
            observe,
            members=Members(self.directory, keys, self.keys),
            settings=DriverSettings.in_process(),
            clock=fake.clock,
            sleep=fake.sleep,
        ).run()


def test_a_new_site_counts_from_the_next_round_on(tmp_path: Path) -> None:
    run = Run(tmp_path, make_plan("a", "b"))
    made: list[Addendum] = []
    result = run.drive({2: lambda: made.append(run.add())})
    assert [r.accepted for r in result.history] == [("a", "b")] * 2 + [("a", "b", "late")] * 2
    assert [r.weight for r in result.history] == [27, 27, 58, 58]
    assert result.finalised.accepted == ("a", "b", "late")
    digests = {(one.site, one.plan_digest) for one in run.asked}
    base = run.directory.plan
    assert digests == {("a", base.digest), ("b", base.digest), ("late", made[0].digest)}
    theirs = current_plan(run.directory)
    assert theirs.digest == made[0].digest
    assert list(theirs.weights) == ["a", "b", "late"]
    for one in run.asked:
        admit_instruction(one, theirs if one.site == "late" else base, one.site)


def test_the_bits_are_those_of_a_plan_whose_third_site_came_late(tmp_path: Path) -> None:
    run = Run(tmp_path / "added", make_plan("a", "b"))
    result = run.drive({2: run.add})
    planned = Run(tmp_path / "planned", extended_plan(make_plan("a", "b"), (LATE,)))

    def silent_at_first(site: ToySite, asked: Sealed, reply: Sealed) -> Sealed | Failure:
        early = read(asked).kind == "train" and read(asked).round < 3
        return Failure("away") if early else reply

    planned.transport.faults["late"] = silent_at_first
    assert planned.drive().sha256 == result.sha256


def test_a_driver_that_starts_again_still_knows_the_new_site(tmp_path: Path) -> None:
    run = Run(tmp_path, make_plan("a", "b"))

    def stop() -> None:
        run.add()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.drive({2: stop})
    result = run.drive()
    assert [r.accepted for r in result.history][2:] == [("a", "b", "late")] * 2


def test_a_revoked_site_is_asked_no_more_and_its_reply_is_not_used(tmp_path: Path) -> None:
    run = Run(tmp_path, make_plan("a", "b", "c"))
    result = run.drive({2: lambda: withdraw_key(run.keys, "c")})
    assert [r.accepted for r in result.history] == [("a", "b", "c")] * 2 + [("a", "b")] * 2
    assert "c" not in result.history[-1].sites
    assert "c" not in result.finalised.sites


def test_a_reply_of_a_site_that_was_revoked_meanwhile_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, make_plan("a", "b", "c", training={"rounds": 1}))
    original = Members.require

    def revoked_now(self: Members, site: str) -> None:
        if site == "c":
            withdraw_key(run.keys, "c")
        original(self, site)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Members, "require", revoked_now)
        result = run.drive()
    assert result.history[0].accepted == ("a", "b")
    assert result.history[0].set_aside["c"].startswith("SMR-E599")


def test_a_site_that_changed_its_key_is_heard_in_the_next_round(tmp_path: Path) -> None:
    run = Run(tmp_path, make_plan("a", "b"))

    def change() -> None:
        run.transport.sites["b"].key = create_signing_key(tmp_path / "b.pem")
        run.publish("b")

    result = run.drive({2: change})
    assert [r.accepted for r in result.history] == [("a", "b")] * 4


@pytest.mark.parametrize("sections", TAKES_NONE.values(), ids=TAKES_NONE)
def test_a_plan_in_which_others_would_notice_takes_no_addition(
    tmp_path: Path, sections: dict[str, dict[str, object]]
) -> None:
    plan = plan_of(sections)
    with pytest.raises(SmrfedError, match="SMR-E594") as raised:
        Addendum.of("toy-run", plan, (LATE,), COORDINATOR_KEY)
    assert "adaptation." in str(raised.value.found) or "aggregation." in str(raised.value.found)


@pytest.mark.parametrize("sections", TAKES_ONE.values(), ids=TAKES_ONE)
def test_what_a_site_of_the_plan_does_is_not_touched(
    sections: dict[str, dict[str, object]],
) -> None:
    """Its own entry, every section, and the bound on its own update stay what they were."""
    plan = plan_of(sections)
    extended = extended_plan(plan, (LATE,))
    assert extended.federation.sites[:3] == plan.federation.sites
    assert extended.model_dump(exclude={"federation"}) == plan.model_dump(exclude={"federation"})
    for site in plan.weights:
        assert extended.weights[site] == plan.weights[site]
        for number in (1, 4):
            assert update_norm_bound(extended, site, 49, number) == update_norm_bound(
                plan, site, 49, number
            )


_ENTRIES = st.lists(
    st.builds(
        SiteEntry,
        name=st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,30}\Z"),
        declared_patients=st.integers(1, 10**6),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda entry: entry.name,
)


@given(_ENTRIES)
def test_an_addendum_holds_for_its_plan_and_key_only(entries: list[SiteEntry]) -> None:
    base = make_plan("zz-one", "zz-two")
    if {entry.name for entry in entries} & base.weights.keys():
        return
    made = Addendum.of("toy-run", base, tuple(entries), COORDINATOR_KEY)
    again = Addendum.model_validate_json(made.model_dump_json())
    plan = again.plan(base, COORDINATOR_KEY.public_key())
    assert plan.digest == made.digest
    assert plan.site(entries[-1].name) == entries[-1]
    other = key_of("somebody else").public_key()
    for changed in (
        again.model_copy(update={"digest": base.digest}),
        again.model_copy(update={"base_digest": plan.digest}),
        again.model_copy(update={"run_id": "another"}),
    ):
        with pytest.raises(SmrfedError, match="SMR-E594"):
            changed.plan(base, COORDINATOR_KEY.public_key())
    with pytest.raises(SmrfedError, match="SMR-E594"):
        again.plan(base, other)


def test_an_addendum_of_another_run_stops_the_driver(tmp_path: Path) -> None:
    run = Run(tmp_path, make_plan("a", "b"))
    made = run.add()
    path = run.directory.path / "additions" / "late.json"
    path.write_text(made.model_copy(update={"run_id": "other"}).model_dump_json())
    with pytest.raises(SmrfedError, match="SMR-E594"):
        run.drive()
    path.write_text("{")
    with pytest.raises(SmrfedError, match="SMR-E594"):
        additions(run.directory)


def test_a_name_that_the_plan_has_already_is_refused(tmp_path: Path) -> None:
    base = make_plan("a", "b")
    with pytest.raises(SmrfedError, match="SMR-E102"):
        Addendum.of("r", base, (SiteEntry(name="a", declared_patients=3),), COORDINATOR_KEY)


def make_run_of(running: Federation, plan: FederationPlan) -> RunDirectory:
    return RunDirectory.create(running.folder.runs / "study", plan, initial_arrays(), "study-1")


def test_two_commands_add_a_hospital_to_a_run(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        run = make_run_of(running, make_plan("a", "b"))
        made = invite(running.folder, "north", valid_s=600, run="study", patients=12)
        hospital = running.hospital()
        assert additions(run) == ()
        joining = Joining.begin(hospital, made.token)
        offer = joining.look()
        plan = joining.plan(offer)
        assert plan is not None
        assert plan.digest == made.plan_digest != run.plan.digest
        assert FederationPlan.load(joining.write_plan(plan)).digest == plan.digest
        joining.join(joining.node_key(), plan, offer)
        (added,) = additions(run)
        assert added.site == SiteEntry(name="north", declared_patients=12)
        assert current_plan(run).digest == plan.digest


def test_a_hospital_that_accepted_another_plan_is_not_added(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        run = make_run_of(running, make_plan("a", "b"))
        token = running.token("north", run="study", patients=12)
        joining = Joining.begin(running.hospital(), token)
        offer = joining.look()
        with pytest.raises(SmrfedError, match="another plan"):
            joining.join(joining.node_key(), run.plan, offer)
        assert additions(run) == ()
        assert running.nodes.known == {}


def test_who_is_in_the_plan_needs_no_addendum_and_gets_the_plan(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        run = make_run_of(running, make_plan("north", "b"))
        made = invite(running.folder, "north", valid_s=600, run="study")
        joining = Joining.begin(running.hospital(), made.token)
        plan = joining.plan(joining.look())
        assert plan is not None
        assert plan.digest == run.plan.digest == made.plan_digest


def test_an_enrolled_hospital_comes_to_a_run_with_the_keys_that_it_has(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        run = make_run_of(running, make_plan("a", "b"))
        hospital = running.hospital()
        running.join(hospital, running.token())
        running.join(hospital, running.token("north", run="study", patients=4))
        assert [one.site.name for one in additions(run)] == ["north"]
        assert len(running.nodes.known) == 1
        thief = running.hospital("north", folder="thief")
        token = running.token("north", run="study", patients=4)
        with pytest.raises(SmrfedError, match="enrolled with other keys"):
            running.join(thief, token)


def test_what_cannot_be_invited_is_refused_by_number(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        make_run_of(running, make_plan("a", "b"))
        for code, options in (
            ("SMR-E593", {"run": "study"}),
            ("SMR-E530", {"run": "other", "patients": 3}),
        ):
            with pytest.raises(SmrfedError, match=code):
                running.token("north", **options)
        with pytest.raises(SmrfedError, match="SMR-E593"):
            running.token("North Hospital")
        with pytest.raises(SmrfedError, match="SMR-E593"):
            running.token("North Hospital", run="study", patients=3)


def test_a_run_of_a_plan_that_takes_none_refuses_the_invitation(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        make_run_of(running, plan_of(TAKES_NONE["control variates"]))
        with pytest.raises(SmrfedError, match="SMR-E594"):
            running.token("north", run="study", patients=3)
