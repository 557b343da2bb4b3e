"""Layer B at a real site: moments bounded, noised, charged once; residuals that never leave."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import dp_accounting
import numpy as np
import pytest
from agent_site import Hospital, build_hospital, everything_below, opened
from dp_accounting import pld
from small_site import small_atlas, small_plan, token_patients

from client.agent.agent import SiteAgent
from client.agent.site_rounds import place_site
from client.agent.statistics import released_statistics
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from client.training.site_shift import SHIFT
from shared_model.adaptation.dimensions import embedding_size, moments_dimensions
from shared_model.adaptation.wire import Carried, with_moments, without_moments
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import plan_epsilon, planned_releases
from shared_model.protocol.arrays import Arrays, decode_arrays
from shared_model.releases.statistics import shapes

TRAIN, MOMENTS = 9.0, 4.0


def moments_plan(
    use: str = "shift", mode: str = "local", personalise: str = "never", rounds: int = 4
) -> FederationPlan:
    private = mode == "local"
    return small_plan(
        mode,
        training={"rounds": rounds},
        privacy={"noise_multiplier": TRAIN} if private else {},
        adaptation={
            "site_moments": use,
            "moments_every": 2,
            "moments_noise_multiplier": MOMENTS if private else 0.0,
            "personalise": personalise,
            "moments_dimensions": None if use == "affine" else 5,
        },
    )


def hospital_of(folder: Path, archive: Path, plan: FederationPlan) -> Hospital:
    hospital = build_hospital(folder, archive, plan)
    with (hospital.folder / "policy.toml").open("a") as file:
        file.write("allow_moments = true\n")
    return hospital


@pytest.fixture
def hospital(tmp_path: Path, archive: Path) -> Hospital:
    return hospital_of(tmp_path / "site", archive, moments_plan())


@pytest.fixture
def agent(hospital: Hospital) -> Iterator[SiteAgent]:
    agent = hospital.agent()
    yield agent
    agent.close()


def initial(plan: FederationPlan) -> dict[str, np.ndarray]:
    return SiteModel.build(plan, small_atlas()).shared_arrays()


def of_two_sites(plan: FederationPlan, own: Arrays) -> dict[str, Arrays]:
    """The site's own release, and one of a site far away."""
    rng = np.random.default_rng(1)
    other = {n: (v + 20 * rng.random(v.shape)).astype(np.float32) for n, v in own.items()}
    return {"a": own, "b": other}


def test_moments_are_noised_charged_with_training_and_answered_once(
    hospital: Hospital, agent: SiteAgent
) -> None:
    plan, arrays = hospital.plan, initial(hospital.plan)
    agent.handle(hospital.instruction(arrays, 2))
    instruction = hospital.instruction(arrays, 2, "moments")
    reply = agent.handle(instruction)
    _, found = opened(agent, reply)
    assert {n: v.shape for n, v in found.items()} == shapes(plan, "moments")
    assert found["mean"].shape == (3, 5)
    assert agent.handle(instruction) == reply
    ledger = Ledger(hospital.state.ledger)
    entries = ledger.entries()
    assert [(e.purpose, e.round, e.use.noise_multiplier) for e in entries] == [
        ("train", 2, TRAIN), ("moments", 2, MOMENTS),
    ]  # fmt: skip
    assert entries[0].cohort == entries[1].cohort
    # Another accountant: both are charged to the training patients.
    truth = pld.PLDAccountant()
    truth.compose(dp_accounting.GaussianDpEvent(TRAIN))
    truth.compose(dp_accounting.GaussianDpEvent(MOMENTS))
    assert ledger.spent(1e-5) == pytest.approx(truth.get_epsilon(1e-5), rel=2e-3)


def test_the_plan_prices_every_release_of_moments() -> None:
    plan = moments_plan(rounds=5)
    counts = {r.purpose: r.count for r in planned_releases(plan)}
    assert counts == {"train": 5, "moments": 3}
    truth = pld.PLDAccountant()
    truth.compose(dp_accounting.GaussianDpEvent(TRAIN), 5)
    truth.compose(dp_accounting.GaussianDpEvent(MOMENTS), 3)
    assert plan_epsilon(plan) == pytest.approx(truth.get_epsilon(1e-5), rel=2e-3)


def test_what_is_not_announced_or_not_allowed_is_refused(
    tmp_path: Path, archive: Path, hospital: Hospital, agent: SiteAgent
) -> None:
    for number in (1, 3):
        with pytest.raises(SmrfedError, match="SMR-E370"):
            agent.handle(hospital.instruction(initial(hospital.plan), number, "moments"))
    assert Ledger(hospital.state.ledger).entries() == ()
    closed = build_hospital(tmp_path / "closed", archive, moments_plan())
    with pytest.raises(SmrfedError, match="SMR-E364") as caught:
        closed.agent()
    assert "allow_moments" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "number"),
    [("round", 2), ("site", 3), ("shape", 3), ("nan", 3), ("missing", 3), ("unannounced", 3)],
)
def test_moments_that_the_plan_does_not_announce_are_refused(
    hospital: Hospital, agent: SiteAgent, change: str, number: int
) -> None:
    plan = hospital.plan
    own = {n: np.ones(s, np.float32) for n, s in shapes(plan, "moments").items()}
    sites = of_two_sites(plan, own)
    if change == "site":
        sites["c"] = own
    if change == "shape":
        sites["b"] = own | {"mean": np.ones((3, 4), np.float32)}
    if change == "nan":
        sites["b"] = own | {"count": np.full(3, np.nan, np.float32)}
    if change == "missing":
        sites["b"] = {"mean": own["mean"]}
    after = 1 if change == "unannounced" else 2
    body = with_moments(initial(plan), Carried(after, sites))
    with pytest.raises(SmrfedError, match="SMR-E382"):
        agent.handle(hospital.instruction(body, number))
    assert Ledger(hospital.state.ledger).entries() == ()


def test_a_body_is_taken_apart_as_it_was_put_together() -> None:
    plan = moments_plan()
    own = {n: np.ones(s, np.float32) for n, s in shapes(plan, "moments").items()}
    sites = of_two_sites(plan, own)
    shared, carried = without_moments(
        with_moments(initial(plan), Carried(2, sites)), plan, last_round=2
    )
    assert set(shared) == set(initial(plan))
    assert carried is not None
    assert carried.after_round == 2
    for site, named in sites.items():
        for name, value in named.items():
            np.testing.assert_array_equal(carried.sites[site][name], value)
    assert without_moments(initial(plan), plan, 2)[1] is None


def made_up(plan: FederationPlan, mean: float) -> dict[str, np.ndarray]:
    """Sums over hundreds of patients whose embeddings lie on one side."""
    level = {"mean": mean, "count": 100.0, "square": 50.0}
    return {n: np.full(s, level[n], np.float32) for n, s in shapes(plan, "moments").items()}


def pairs_of(arrays: Arrays) -> list[bytes]:
    """Eight bytes each: two neighbouring numbers that are not zero."""
    flat = [np.asarray(value, np.float32).reshape(-1) for value in arrays.values()]
    return [
        np.array(pair, np.float32).tobytes()
        for values in flat
        for pair in itertools.pairwise(values)
        if all(pair)
    ]


@pytest.mark.parametrize(
    ("use", "mode", "personalise"),
    [
        ("shift", "local", "never"),
        ("shift", "none", "after"),
        ("affine", "local", "never"),
        ("linear", "local", "private"),
        ("confusion", "none", "private"),
    ],
)
def test_residuals_never_leave_whatever_moves_them(
    tmp_path: Path, archive: Path, use: str, mode: str, personalise: str
) -> None:
    plan = moments_plan(use, mode, personalise)
    hospital = hospital_of(tmp_path / "site", archive, plan)
    agent, shared, carried, sent = hospital.agent(), initial(plan), None, []
    for number in range(1, plan.training.rounds + 1):
        body = with_moments(shared, carried)
        reply = agent.handle(hospital.instruction(body, number))
        sent.append(reply)
        delta = decode_arrays(reply.body)
        shared = {name: shared[name] + delta[name] for name in shared}
        if number % 2 == 0:
            body = with_moments(shared, carried)
            reply = agent.handle(hospital.instruction(body, number, "moments"))
            sent.append(reply)
            # Two sites of many patients, so far apart that noise leaves a shift.
            far = {"a": made_up(plan, -60.0), "b": made_up(plan, 60.0)}
            carried = Carried(number, far)
    sent.append(agent.handle(hospital.instruction(with_moments(shared, carried), 4, "finalise")))
    agent.close()
    folder = hospital.state.model("run-1")
    kept = [decode_arrays(path.read_bytes()) for path in folder.glob("site*.safetensors")]
    secrets = [pair for arrays in kept for pair in pairs_of(arrays)]
    assert len(secrets) > 3
    bodies = b"\0".join(reply.header + reply.body for reply in sent)
    assert not any(secret in bodies for secret in secrets)
    assert b"site_shift" not in bodies
    assert b"site_scale" not in bodies
    assert set(decode_arrays(sent[0].body)) == set(shared)


def test_a_release_shifts_the_site_once_whichever_question_brings_it(tmp_path: Path) -> None:
    plan = moments_plan(mode="none")
    model = SiteModel.build(plan, small_atlas())
    patients = token_patients(model, 12)
    own = released_statistics(model, patients, plan, "moments")
    carried = Carried(2, of_two_sites(plan, own))
    place_site(tmp_path, model, "a", 3, carried, trains=True)
    first = model.site_arrays()
    assert np.abs(first[SHIFT]).max() > 0
    assert first[SHIFT].shape == (embedding_size(plan),)
    assert np.linalg.matrix_rank(first[SHIFT][None]) == 1
    # The next rounds, a retrained one and the end find the same.
    for number, trains in ((3, True), (4, True), (4, False)):
        model.reset_site()
        place_site(tmp_path, model, "a", number, carried, trains=trains)
        np.testing.assert_array_equal(model.site_arrays()[SHIFT], first[SHIFT])
    # Before that release the site ran at zero.
    place_site(tmp_path, model, "a", 2, None, trains=True)
    assert not model.site_arrays()[SHIFT].any()
    assert list(everything_below(tmp_path)) == [Path("site-0000003.safetensors")]


def test_after_the_shift_a_site_has_the_common_means(tmp_path: Path) -> None:
    plan = moments_plan(mode="none")
    plan = plan.model_copy(
        update={
            "adaptation": plan.adaptation.model_copy(
                update={"moments_dimensions": None, "moments_radius": 200.0}
            )
        }
    )
    model = SiteModel.build(plan, small_atlas())
    patients = token_patients(model, 60)
    own = released_statistics(model, patients, plan, "moments")
    other = {n: v.copy() for n, v in own.items()}
    other["mean"] += 5.0  # sums over some 20 patients of each class, in units of the radius
    carried = Carried(2, {"a": own, "b": other})
    before = carried.moments(plan)
    gap = before["b"].offset_from(before["a"].means)
    place_site(tmp_path, model, "a", 3, carried, trains=True)
    moved = released_statistics(model, patients, plan, "moments")
    after = Carried(4, {"a": moved, "b": other}).moments(plan)["a"]
    # Half of the way: the common means lie in the middle of the two sites.
    np.testing.assert_allclose(after.offset_from(before["a"].means), gap / 2, rtol=0.1, atol=0.05)
    assert moments_dimensions(plan) == embedding_size(plan)
