"""``smrfed-site ledger`` as a data protection officer and hospital IT use it, on real files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from agent_site import build_hospital
from small_plan_only import small_budget_plan
from test_site_cli import call, write_plan
from typer.testing import CliRunner

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.archive.plan_split import split_by_plan
from client.cli import app
from client.config import SiteConfig
from client.egress.receipts import Decision, Receipts
from client.prepared.scan_source import scan_source
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse, epsilon
from shared_model.privacy.plan_cost import plan_epsilon, release_use

# Not sampled, so that everything is one Gaussian and fast.
FULL = {"rounds": 5, "sampling_rate": 1.0}
PLAN = small_budget_plan(6.0, 8.0, training=FULL)
DELTA = PLAN.privacy.delta


def charge(site: Path, run: str, number: int, plan: FederationPlan, *patients: str) -> None:
    ledger = Ledger(state(site).ledger)
    use = release_use(plan, "train")
    reservation = ledger.reserve(run, number, plan, use, patients=patients)
    ledger.commit(reservation)
    ledger.seal(reservation, "ab" * 32)


def state(site: Path) -> StateFolder:
    return StateFolder(SiteConfig.load(site / "site.toml").state_dir)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Three rounds: ``old`` was in all of them, ``new`` in the last, 4 others in two."""
    folder = tmp_path / "site"
    call("init", folder, "--name", "clinic-a")
    AcceptedPlans(state(folder).plans).accept(PLAN, None)
    others = ("sub-3", "sub-4", "sub-5", "sub-6")
    charge(folder, "run-1", 1, PLAN, "sub-old", *others)
    charge(folder, "run-1", 2, PLAN, "sub-old", *others)
    charge(folder, "run-1", 3, PLAN, "sub-old", "sub-new")
    return folder


def times(count: int) -> float:
    return epsilon([MechanismUse(6.0, 1.0, count)], DELTA)


def ledger(site: Path, *arguments: str | Path) -> Any:
    return json.loads(call("ledger", *arguments, "-c", site / "site.toml", "--json"))


def refused(site: Path, *arguments: str | Path) -> str:
    result = CliRunner().invoke(
        app, ["ledger", *map(str, arguments), "-c", str(site / "site.toml")]
    )
    assert isinstance(result.exception, SmrfedError), result.output
    return result.exception.code


def policy_check(site: Path) -> str:
    plan = write_plan(PLAN, site / "plan.toml")
    result = CliRunner().invoke(app, ["policy", "check", str(plan), "-c", str(site / "site.toml")])
    assert isinstance(result.exception, SmrfedError), result.output
    return result.exception.code


def test_the_table_shows_what_each_patient_has_spent(site: Path) -> None:
    told = ledger(site)
    assert (told["epsilon"], told["median"]) == (times(3), times(2))
    assert told["remaining"] == 10.0 - times(3)
    assert [(v["epsilon"], v["patients"]) for v in told["levels"]] == [
        (times(3), 1), (times(2), 4), (times(1), 1)
    ]  # fmt: skip
    assert told["replace_one"] == epsilon([MechanismUse(6.0, 1.0, 3)], DELTA, "replace_one")
    assert [(p["name"], p["epsilon"], p["releases"]) for p in told["plans"]] == [
        ("budget", times(3), {"train": 3})
    ]
    assert [(e["cohort"], e["patients"], e["state"]) for e in told["entries"]] == [
        (1, 5, "seal"), (1, 5, "seal"), (2, 2, "seal")
    ]  # fmt: skip
    shown = call("ledger", "-c", site / "site.toml")
    assert f"epsilon {times(3):.4f} of 10" in shown
    assert "9 events, chain verified" in shown
    for text in (shown, json.dumps(told)):
        assert "sub-old" not in text


def test_the_drawing_is_an_svg_with_a_curve_per_plan_and_the_cap(
    site: Path, tmp_path: Path
) -> None:
    file = tmp_path / "spent.svg"
    call("ledger", "--plot", file, "-c", site / "site.toml")
    root = ElementTree.fromstring(file.read_text())
    paths = [e for e in root.iter() if e.tag.endswith("path")]
    texts = " ".join(e.text or "" for e in root.iter() if e.tag.endswith("text"))
    assert len(paths) == 2
    assert "the hospital's cap: 10" in texts
    assert "budget, by itself" in texts
    result = CliRunner().invoke(
        app, ["ledger", "--plot", str(tmp_path / "a.png"), "-c", str(site / "site.toml")]
    )
    assert result.exit_code == 2


def test_a_ledger_without_entries_is_shown_and_drawn_and_none_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    call("init", folder, "--name", "clinic-a")
    told = ledger(folder, "--plot", tmp_path / "spent.svg")
    assert (told["epsilon"], told["patients"], told["entries"]) == (0.0, 0, [])
    assert not state(folder).ledger.exists()


def test_a_forecast_says_what_would_remain_and_changes_nothing(site: Path) -> None:
    before = {path.name: path.read_bytes() for path in state(site).path.glob("ledger.sqlite*")}
    plan = write_plan(small_budget_plan(7.0, 8.0, training=FULL), site / "next.toml")
    told = ledger(site, "forecast", plan)
    after = epsilon([MechanismUse(6.0, 1.0, 3), MechanismUse(7.0, 1.0, 5)], DELTA)
    assert (told["before"], told["after"]) == (times(3), after)
    assert told["alone"] == plan_epsilon(FederationPlan.load(plan))
    assert told["remaining"] == 10.0 - after
    assert not told["refused"]
    # No archive here: everybody whom the ledger knows, and a newcomer.
    assert told["training_patients"] == 7
    assert {
        path.name: path.read_bytes() for path in state(site).path.glob("ledger.sqlite*")
    } == before


def test_a_forecast_counts_what_is_released_beside_the_rounds(site: Path) -> None:
    data = small_budget_plan(9.0, 8.0, training=FULL).model_dump(mode="json")
    data["adaptation"] |= {
        "site_moments": "linear", "moments_every": 2, "moments_noise_multiplier": 5.0,
    }  # fmt: skip
    data["evaluation"] |= {"release_every": 3, "release_noise_multiplier": 20.0}
    plan = write_plan(FederationPlan.parse(data), site / "next.toml")
    for rounds, moments in ((5, 3), (4, 2), (1, 1)):
        told = ledger(site, "forecast", plan, "--rounds", str(rounds))
        uses = [MechanismUse(9.0, 1.0, rounds), MechanismUse(5.0, 1.0, moments)]
        assert told["alone"] == epsilon(uses, DELTA)
        assert told["after"] == epsilon([MechanismUse(6.0, 1.0, 3), *uses], DELTA)


def test_a_forecast_reads_from_the_archive_who_would_train_and_who_would_test(
    tmp_path: Path, archive: Path
) -> None:
    hospital = build_hospital(tmp_path / "hospital", archive)
    plan = write_plan(hospital.plan, hospital.folder / "plan.toml")
    told = ledger(hospital.folder, "forecast", plan)
    patients = scan_source(hospital.config, hospital.plan).patients()
    split = split_by_plan(patients, hospital.plan)
    assert told["patients_from"] == "from the archive"
    assert told["training_patients"] == len(split.train) > 0
    assert told["test_patients"] == len(split.test) > 0
    assert told["after"] == told["alone"] == plan_epsilon(hospital.plan)
    # Somebody who only ever tested owes nothing of a training.
    book = Ledger(hospital.state.ledger)
    use = release_use(hospital.plan, "train")
    book.reserve("r", 1, hospital.plan, use, patients=[p.id for p in split.test])
    assert ledger(hospital.folder, "forecast", plan)["after"] == told["after"]
    book.reserve("r", 2, hospital.plan, use, patients=[split.train[0].id])
    assert ledger(hospital.folder, "forecast", plan)["after"] > told["after"]


def test_a_forecast_says_by_how_much_and_after_which_round_it_would_be_refused(
    site: Path,
) -> None:
    (site / "policy.toml").write_text("max_epsilon = 3.0")
    wanted = small_budget_plan(4.0, 3.0, training={"rounds": 9, "sampling_rate": 1.0})
    told = ledger(site, "forecast", write_plan(wanted, site / "next.toml"))

    def after(rounds: int) -> float:
        return epsilon([MechanismUse(6.0, 1.0, 3), MechanismUse(4.0, 1.0, rounds)], DELTA)

    fit = max(rounds for rounds in range(9) if after(rounds) <= 3.0)
    assert told["refused"]
    assert told["rounds_that_fit"] == fit
    assert told["missing"] == pytest.approx(after(9) - 3.0)
    assert told["patients_beyond"] == told["training_patients"] == 7
    assert ledger(site, "forecast", site / "next.toml", "--rounds", str(fit))["missing"] == 0
    # The ledger decides the same.
    book = Ledger(state(site).ledger, 3.0)
    uses = [release_use(wanted, "train")] * fit
    assert book.refusal(wanted, uses, ["sub-old"]) is None
    assert book.refusal(wanted, [*uses, uses[0]], ["sub-old"]) is not None
    shown = call("ledger", "forecast", site / "next.toml", "-c", site / "site.toml")
    assert f"{fit} of 9 rounds fit" in shown


def test_an_export_can_be_read_verified_and_told_from_a_changed_one(
    site: Path, tmp_path: Path
) -> None:
    file, key = tmp_path / "ledger.html", state(site).path / "site.key.pub"
    told = ledger(site, "export", file)
    text = file.read_text()
    assert told["overview"]["epsilon"] == times(3)
    assert "<h1>Privacy ledger of clinic-a</h1>" in text
    assert "<svg" in text
    for patient in ("sub-old", "sub-new", "sub-3"):
        assert patient not in text
    cohorts = {entry.cohort for entry in Ledger(state(site).ledger).entries()}
    assert not any(cohort in text for cohort in cohorts)
    assert ledger(site, "verify-export", file) == told
    # Elsewhere the public key is enough.
    outside = call("ledger", "verify-export", file, "--key", key, "--json")
    assert json.loads(outside) == told
    for changed in (text.replace("of 10", "of 11"), text[:-20], text + "<p>more</p>", "", "<html>"):
        file.write_text(changed)
        assert refused(site, "verify-export", file) == "SMR-E354"
    file.write_text(text)
    call("init", tmp_path / "other", "--name", "clinic-b")
    assert refused(tmp_path / "other", "verify-export", file) == "SMR-E354"


def test_an_export_is_a_witness_against_an_older_ledger(site: Path, tmp_path: Path) -> None:
    files = list(state(site).path.glob("ledger.sqlite*"))
    old = tmp_path / "old"
    old.mkdir()
    for path in files:
        shutil.copy(path, old / path.name)
    charge(site, "run-1", 4, PLAN, "sub-old")
    ledger(site, "export", tmp_path / "ledger.html")
    charge(site, "run-1", 5, PLAN, "sub-old")
    assert ledger(site, "verify-export", tmp_path / "ledger.html")["events"] == 12
    for path in files:
        shutil.copy(old / path.name, path)
    assert ledger(site)["epsilon"] == times(3)
    assert refused(site, "verify-export", tmp_path / "ledger.html") == "SMR-E355"


def receipt(site: Path, kind: str) -> None:
    Receipts(state(site).receipts).append(
        Decision(
            released=True, rule="update", run_id="run-1", round=3, kind=kind, mode="local",
            plan_digest=PLAN.digest, arrays=1, numbers=1, bytes=4, metrics=(),
            body_sha256="0" * 64, reply_sha256="0" * 64, epsilon_after=1.0,
        )
    )  # fmt: skip


def test_each_kind_of_release_needs_a_charge_of_its_own(site: Path) -> None:
    receipt(site, "finalise")
    ledger(site)
    receipt(site, "evaluate")
    assert refused(site) == "SMR-E353"


@pytest.mark.usefixtures("listed_here")
def test_the_receipts_are_a_witness_against_a_removed_ledger(site: Path) -> None:
    receipt(site, "train")
    ledger(site)
    for path in state(site).path.glob("ledger.sqlite*"):
        path.unlink()
    assert refused(site) == "SMR-E353"
    assert refused(site, "export", site / "x.html") == "SMR-E353"
    assert policy_check(site) == "SMR-E353"
    checked = CliRunner().invoke(app, ["check", str(site / "site.toml"), "--json"])
    found = {line["what"]: line["code"] for line in json.loads(checked.stdout)["checks"]}
    assert found["ledger"] == "SMR-E353"


@pytest.mark.usefixtures("listed_here")
def test_a_lost_ledger_is_not_taken_for_one_that_has_spent_nothing(site: Path) -> None:
    plan = write_plan(PLAN, site / "plan.toml")
    check = ["policy", "check", str(plan), "-c", str(site / "site.toml"), "--json"]
    assert f"{times(3):.3f} spent so far" in CliRunner().invoke(app, check).stdout
    state(site).ledger.unlink()
    assert policy_check(site) == "SMR-E303"


def test_what_left_without_privacy_is_told_beside_every_epsilon(site: Path) -> None:
    assert ledger(site)["without_privacy"] == 0
    assert "not covered" not in call("ledger", "-c", site / "site.toml")
    for number, kind, released in (
        (1, "train", True), (1, "train", True), (2, "train", False), (3, "evaluate", True),
        (3, "finalise", True),
    ):  # fmt: skip
        Receipts(state(site).receipts).append(
            Decision(
                released=released, rule="update", run_id="open", round=number, kind=kind,
                mode="none", plan_digest="0" * 64, arrays=1, numbers=1, bytes=4, metrics=(),
                body_sha256="0" * 64, reply_sha256="0" * 64, epsilon_after=None,
            )
        )  # fmt: skip
    assert ledger(site)["without_privacy"] == 2
    assert "2 releases in privacy mode none" in call("ledger", "-c", site / "site.toml")
    # An officer reads a signed sentence that begins with "everything": it must not be a lie.
    told = ledger(site, "export", site / "ledger.html")
    assert told["overview"]["without_privacy"] == 2
    text = (site / "ledger.html").read_text()
    assert text.index("Not covered: 2 releases") < text.index("Everything that this hospital ever")


def test_a_damaged_ledger_ends_every_command_with_a_number(site: Path) -> None:
    plan = write_plan(PLAN, site / "plan.toml")
    (state(site).path / "ledger.sqlite.head").write_text("99 abc")
    for arguments in ((), ("forecast", plan), ("export", site / "x.html")):
        assert refused(site, *arguments) == "SMR-E303"
    done = subprocess.run(
        [sys.executable, "-m", "client.cli", "ledger", "-c", str(site / "site.toml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "[SMR-E303]" in done.stderr


def test_the_second_accountant_agrees(site: Path) -> None:
    check = ledger(site, "--cross-check")["cross_check"]
    assert check["agree"]
    assert check["pld"] == times(3)
    assert check["prv"] == pytest.approx(times(3), rel=0.02, abs=0.02)
