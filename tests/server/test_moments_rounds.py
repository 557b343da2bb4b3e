"""Released moments in a run: asked when due, given to all sites alike, never a bit differently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from driver_runs import StopError, drive_on, outcomes, stop_after
from toy_federation import ToySite, ToyTransport, make_plan, make_run, read

from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RunResult
from server.rounds.events import Event
from shared_model.adaptation.wire import Carried, without_moments
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, decode_arrays
from shared_model.protocol.sealed import Sealed
from shared_model.releases.statistics import norm_bound, shapes

NAMES = ("a", "b", "c")


def moments_plan(rounds: int = 5, every: int = 2, **sections) -> FederationPlan:
    return make_plan(
        *NAMES,
        training={"rounds": rounds},
        adaptation={"site_moments": "linear", "moments_every": every, "moments_dimensions": 4},
        **sections,
    )


class MomentsSite(ToySite):
    """Releases made-up moments; its update depends on those that it is given."""

    def __init__(self, name: str, plan: FederationPlan, factor: float = 1.0) -> None:
        super().__init__(name)
        self.plan = plan
        self.factor = factor
        self.asked: list[tuple[str, int]] = []
        self.carried: dict[tuple[str, int], Carried | None] = {}

    def handle(self, message: Sealed) -> Sealed:
        asked = read(message)
        shared, carried = without_moments(decode_arrays(message.body), self.plan, asked.round)
        if (asked.kind, asked.round) not in self.carried:
            self.asked.append((asked.kind, asked.round))
        self.carried[asked.kind, asked.round] = carried
        if asked.kind == "train":
            delta = self.update(shared, asked.round)
            if carried is not None:
                told = sum(float(v.sum()) for s in carried.sites.values() for v in s.values())
                delta = {n: (v + 1e-3 * told).astype(np.float32) for n, v in delta.items()}
            return self.sign(message, delta)
        if asked.kind == "moments":
            rng = np.random.default_rng([asked.round, *self.name.encode()])
            sums = {n: rng.normal(size=s) for n, s in shapes(self.plan, "moments").items()}
            return self.sign(
                message, {n: (self.factor * v).astype(np.float32) for n, v in sums.items()}
            )
        return super().handle(message)


class MomentsTransport(ToyTransport):
    def __init__(self, plan: FederationPlan, **factors: float) -> None:
        super().__init__(*NAMES)
        self.sites = {name: MomentsSite(name, plan, factors.get(name, 1.0)) for name in NAMES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, MomentsTransport]:
    plan = moments_plan()
    transport = MomentsTransport(plan)
    path = tmp_path_factory.mktemp("whole") / "run"
    return drive_on(make_run(path, plan), transport), transport


def facts(result: RunResult) -> list[object]:
    return [
        result.body,
        outcomes(result.history),
        [(r.body_sha256, r.after_round, r.arrays) for r in result.releases],
        result.finalised.accepted,
    ]


def test_moments_are_asked_when_due_and_reach_every_site_in_the_next_question(whole) -> None:
    result, transport = whole
    for site in transport.sites.values():
        assert site.asked == [
            ("train", 1), ("train", 2), ("moments", 2), ("train", 3), ("train", 4),
            ("moments", 4), ("train", 5), ("moments", 5), ("finalise", 5),
        ]  # fmt: skip
        after = {place: c and c.after_round for place, c in site.carried.items()}
        assert after == {
            ("train", 1): None, ("train", 2): None, ("moments", 2): None, ("train", 3): 2,
            ("train", 4): 2, ("moments", 4): 2, ("train", 5): 4, ("moments", 5): 4,
            ("finalise", 5): 5,
        }  # fmt: skip
    for number in (3, 5):
        asked = [(read(message), message.body) for _, message in transport.pushed]
        bodies = {body for a, body in asked if (a.kind, a.round) == ("train", number)}
        assert len(bodies) == 1  # every site the same
    carried = transport.sites["a"].carried["finalise", 5]
    assert carried is not None
    assert set(carried.sites) == set(NAMES)
    released = result.releases[-1].arrays
    for site, named in carried.sites.items():
        for name, value in named.items():
            assert tuple(value.reshape(-1).tolist()) == released[site][name]


def test_each_release_is_of_the_parameters_that_follow_and_the_last_of_the_result(whole) -> None:
    result, _ = whole
    assert [r.after_round for r in result.releases] == [2, 4, 5]
    assert result.releases[-1].body_sha256 == body_digest(result.body)
    # What is released is the model alone; moments travel in instructions only.
    assert not [name for name in result.arrays if "moments" in name]


def test_a_run_that_is_interrupted_at_any_event_goes_on_to_the_same_bits(
    whole, tmp_path: Path
) -> None:
    plan = moments_plan()
    events: list[Event] = []
    drive_on(make_run(tmp_path / "counted", plan), MomentsTransport(plan), events.append)

    for number in range(len(events)):
        path, transport = tmp_path / str(number), MomentsTransport(plan)
        with pytest.raises(StopError):
            drive_on(make_run(path, plan), transport, stop_after(number))
        resumed = drive_on(RunDirectory.open(path), transport)
        assert facts(resumed) == facts(whole[0]), events[number]


def test_sums_that_a_site_cannot_have_are_set_aside(tmp_path: Path) -> None:
    plan = moments_plan()
    assert norm_bound(plan, "b", "moments") < 1e4
    transport = MomentsTransport(plan, b=1e6)
    result = drive_on(make_run(tmp_path / "run", plan), transport)
    assert set(result.releases[0].arrays) == {"a", "c"}
    assert "SMR-E571" in result.releases[0].asked.set_aside["b"]
    carried = transport.sites["b"].carried["train", 3]
    assert carried is not None
    assert set(carried.sites) == {"a", "c"}
