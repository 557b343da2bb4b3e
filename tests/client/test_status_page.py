"""The hospital's own page: from real records, without the agent, without torch, read only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headless_browser import Browser, require_chromium
from page_checks import check_page, log_in
from small_plan_only import small_budget_plan
from test_receipt_commands import PLAN, ROUNDS, Site

from client.agent.acceptance import AcceptedPlans
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from client.egress.refusals import Refusals, Refused
from client.ledger_view.opened import opened_ledger
from client.quality.page import write_page
from client.quality.site_page import SitePage as QualityPage
from client.status_page.app import PRODUCT, SitePage
from client.status_page.policy_words import policy_words
from shared_model.errors import SmrfedError
from shared_model.local_page.answers import Question
from shared_model.local_page.server import PageServer

TOKEN = "s" * 43
ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Five rounds left, three were signed for; two scans were prepared."""
    made = Site(tmp_path / "site")
    AcceptedPlans(made.state.plans).accept(PLAN, None)
    for number in (1, 2, 3):
        made.acknowledge(number)
    Refusals(made.state.refusals).note(Refused(code="SMR-E401", signed=False, bytes=12))
    folder = made.state.derivatives
    folder.mkdir(parents=True)
    (folder / "quality.tsv").write_text(
        "participant_id\tsession_id\tscan\tverdict\tused\n"
        "sub-1\tn/a\tabc\tpass\tyes\nsub-2\tn/a\tdef\treview\tno\n"
    )
    (folder / "excluded.tsv").write_text(
        "code\tparticipant_id\tsession_id\treason\tremedy\nSMR-E214\tsub-9\tn/a\tx\ty\n"
    )
    write_page(folder / "quality.html", QualityPage("a", ()))
    return made


def facts(page: SitePage, *, checks: bool = False) -> Any:
    """The facts, once those that are looked up beside the page are known."""
    for _ in range(600):
        answer = page(Question("/api/status", {}))
        assert answer is not None
        found = json.loads(answer.body)
        known = found["epsilon"] is not None or found["problems"]
        if known and (not checks or found["checks"] is not None):
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def text(page: SitePage) -> str:
    answer = page(Question("/", {}))
    assert answer is not None
    return answer.body.decode()


def opened(site: Site) -> SitePage:
    return SitePage(SiteConfig.load(site.config))


def test_the_page_says_what_the_records_and_the_ledger_say(site: Site) -> None:
    page = opened(site)
    found = facts(page)
    policy = SitePolicy.load(SiteConfig.load(site.config).policy)
    with opened_ledger(site.state, policy.max_epsilon) as ledger:
        assert found["epsilon"] == ledger.spent(policy.max_delta)
    records = found["records"]
    assert [(c["lines"], c["problem"]) for c in records["chains"]] == [
        (ROUNDS, None), (3, None), (1, None),
    ]  # fmt: skip
    assert (records["left"], records["acknowledged"]) == (ROUNDS, 3)
    assert [line["number"] for line in records["last"]] == [5, 4, 3, 2, 1]
    assert found["running"] is False
    assert found["runs"] == {"run-1": {"round": ROUNDS, "kind": "train"}}
    assert found["plans"][0]["digest"] == PLAN.digest
    assert found["quality"]["verdicts"] == {"pass": 1, "review": 1}
    assert found["quality"]["excluded"] == {"SMR-E214": 1}
    shown = text(page)
    assert "not running" in shown
    assert shown.count("not yet signed for") == 2
    assert "<svg" in shown
    assert "/errors/SMR-E214" in shown


def test_what_is_new_is_shown_and_what_was_changed_is_told(site: Site) -> None:
    page = opened(site)
    facts(page)
    site.acknowledge(4)
    with pytest.raises(SmrfedError, match="SMR-E325"):
        site.answer(6)  # longer than clipping can make it: the gate refuses, with a receipt
    records = json.loads(_api(page))["records"]
    assert (records["acknowledged"], records["left"]) == (4, ROUNDS)
    assert records["chains"][0]["lines"] == ROUNDS + 1
    assert '<a href="/errors/SMR-E325">' in text(page)
    path = site.state.receipts
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    path.write_bytes(b"".join(lines[:3]))
    assert "SMR-E326" in text(page)
    path.unlink()
    path.write_bytes(b"".join(lines).replace(b'"bytes":60', b'"bytes":61', 1))
    assert "SMR-E326 The receipts were altered: line 1" in text(page)


def _api(page: SitePage) -> bytes:
    answer = page(Question("/api/status", {}))
    assert answer is not None
    return answer.body


def test_a_damaged_ledger_or_policy_is_told_and_the_rest_stays(site: Site) -> None:
    (site.folder / "policy.toml").write_text("max_epsilon = 'much'")
    site.state.ledger.write_bytes(b"no ledger")
    page = opened(site)
    found = facts(page)
    assert found["problems"][0].startswith("SMR-E310")
    shown = text(page)
    assert "SMR-E310" in shown
    assert "replies with" in shown


def test_looking_changes_nothing_in_the_state_folder(site: Site) -> None:
    def everything() -> dict[str, bytes]:
        return {
            str(path.relative_to(site.folder)): path.read_bytes()
            for path in sorted(site.folder.rglob("*"))
            # SQLite's own files of readers, without content that counts.
            if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
        }

    site.state.key.unlink()  # the check of the key would make a new one
    before = everything()
    page = opened(site)
    facts(page, checks=True)
    text(page)
    assert everything() == before


def test_the_checks_only_look_and_name_their_problem(site: Site) -> None:
    (site.folder / "coordinator.pub").unlink()
    found = facts(opened(site), checks=True)
    levels = {check["what"]: check for check in found["checks"]}
    assert levels["coordinator key"]["level"] == "problem"
    assert not {"site key", "writing", "device", "atlas", "archive"} & levels.keys()
    assert levels["policy"]["level"] == "ok"


def test_a_new_hospital_has_a_page_too(tmp_path: Path) -> None:
    from client.commands.templates import POLICY_TOML, site_toml

    (tmp_path / "site.toml").write_text(site_toml("b"))
    (tmp_path / "policy.toml").write_text(POLICY_TOML)
    page = SitePage(SiteConfig.load(tmp_path / "site.toml"))
    facts(page)
    shown = text(page)
    assert "No plan was accepted yet" in shown
    assert "No scan went through quality control yet" in shown
    assert not (tmp_path / "state").exists()


def test_the_policy_is_told_in_words() -> None:
    words = " ".join(policy_words(SitePolicy(max_epsilon=3.0, allow_evaluation=True)))
    assert "up to epsilon 3 for one plan and 3 over everything" in words
    assert "so may counts on test patients; nothing else" in words
    assert "at any hour" in words


def test_the_quality_page_may_show_itself_and_reach_nothing(site: Site) -> None:
    answer = opened(site)(Question("/quality", {}))
    assert answer is not None
    assert "sandbox allow-scripts" in answer.policy
    assert "connect-src" not in answer.policy
    assert "default-src 'none'" in answer.policy
    assert opened(site)(Question("/quality/../site.key", {})) is None


def test_the_command_serves_without_torch_and_logs_no_token(site: Site) -> None:
    code = (
        "import sys, threading\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'monai', 'opacus'):\n"
        "            raise ImportError(f'{name} is not installed here')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from client.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "status", "-c", str(site.config), "--page", "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("the token is in"):
                break
        token = (site.state.path / "status-page.token").read_text().strip()
        assert token not in "".join(said)
        address = said[0].split(" on ")[1].split(";")[0]
        request = urllib.request.Request(
            f"{address}api/status", headers={"Authorization": f"Bearer {token}"}
        )
        for _ in range(300):
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = json.load(answer)
            if found["checks"] is not None and found["epsilon"] is not None:
                break
            time.sleep(0.2)
        assert found["site"] == "a"
        assert found["checks"]
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


@pytest.fixture
def browser() -> Iterator[Browser]:
    require_chromium()
    with Browser() as running:
        yield running


def test_the_page_in_a_browser(site: Site, browser: Browser) -> None:
    AcceptedPlans(site.state.plans).accept(small_budget_plan(5.0, 7.0), None)
    page = opened(site)
    facts(page, checks=True)
    with PageServer(0, TOKEN, page, PRODUCT) as server:
        browser.window(1200, 800)
        log_in(browser, server.address, TOKEN)
        check_page(browser, server.address)
        browser.open(server.address)
        browser.evaluate("window.mark = 1")
        assert "has signed for 3" in browser.evaluate("document.body.innerText")
        site.acknowledge(4)
        browser.wait("document.body.innerText.includes('has signed for 4')")
        assert browser.evaluate("window.mark") == 1
        browser.evaluate("document.querySelector('a[href=\"/quality\"]').click()")
        browser.wait("location.pathname === '/quality' && document.readyState === 'complete'")
        assert "Quality control" in browser.evaluate("document.title")
        assert all(request.startswith((server.address, "data:")) for request in browser.requests), (
            browser.requests
        )
        assert browser.errors == []
