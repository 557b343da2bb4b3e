"""The checks of machine, files, records and data, and the command that runs them all."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from preflight_peers import Authority, black_hole, coordinator
from typer.testing import CliRunner

from client.cli import app
from client.commands.templates import POLICY_TOML, site_toml
from client.config import SiteConfig
from client.enrolment.connection import Connection
from client.preflight.catalogue import GROUPS, checks_of
from client.preflight.machine.disk import check_writable
from client.preflight.machine.file_system import check_file_system, file_system
from client.preflight.machine.gpu import GpuFacts, judge
from client.preflight.machine.processors import check_memory
from client.preflight.setup.agreement import check_release_hours
from client.preflight.setup.connection_files import check_courier, check_joined
from client.preflight.setup.data import check_quality
from client.preflight.setup.file_modes import check_modes, check_socket
from client.preflight.setup.processes import check_agent, check_supernode
from client.preflight.setup.records import check_ledger
from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Check, Note, NotLookedAt, Trouble, run_checks


@pytest.fixture
def site(tmp_path: Path) -> CheckedSite:
    """What smrfed-site init leaves behind."""
    result = CliRunner().invoke(app, ["init", str(tmp_path / "site"), "--name", "clinic-a"])
    assert result.exit_code == 0
    return CheckedSite(SiteConfig.load(tmp_path / "site" / "site.toml"))


def join(site: CheckedSite, superlink: str = "c.example:443", name: str = "clinic-a") -> None:
    folder = site.connection_folder
    folder.save(
        Connection(
            site=name,
            superlink=superlink,
            coordinator="0123-" * 7 + "0123",
            courier_sha256=("a" * 64,),
            protocol_version=1,
        )
    )
    for path in (folder.authority, folder.node_key, folder.superexec_secret):
        path.write_bytes(b"x")
        path.chmod(0o600)


def again(site: CheckedSite) -> CheckedSite:
    return CheckedSite(site.config)


def code(look: object, *args: object) -> str:
    with pytest.raises(SmrfedError) as caught:
        look(*args)  # type: ignore[operator]
    return caught.value.code


def test_one_failing_check_hides_no_other_and_the_order_stays() -> None:
    def fails() -> str:
        raise SmrfedError("SMR-E000", "numbered", remedy="none")

    def breaks() -> str:
        raise ZeroDivisionError("unforeseen")

    def skips() -> str:
        raise NotLookedAt("nothing there")

    def hangs() -> str:
        time.sleep(30)
        return "never"

    checks = [
        Check("a", "hangs", hangs, 0.3),
        Check("a", "fails", fails),
        Check("b", "breaks", breaks),
        Check("b", "skips", skips),
        Check("b", "notes", lambda: Note("look")),
        Check("c", "exits", lambda: exit(3)),
        Check("c", "fine", lambda: "yes"),
    ]
    begin = time.monotonic()
    found = list(run_checks(checks, Trouble("SMR-E999")))
    assert time.monotonic() - begin < 20
    assert [f.what for f in found] == [c.what for c in checks]
    levels = ["problem", "problem", "problem", "skipped", "note", "problem", "ok"]
    assert [f.level for f in found] == levels
    codes = [f.error.code if f.error else None for f in found]
    assert codes == ["SMR-E999", "SMR-E000", "SMR-E999", None, None, "SMR-E999", None]
    assert "ZeroDivisionError: unforeseen" in str(found[2].error)


GPU = GpuFacts("535.104.05", (12, 2), "12.1", "A100", (8, 0), 30 << 30, ("sm_80", "sm_90"), 1)


@pytest.mark.parametrize(
    ("wanted", "facts", "expected"),
    [
        ("auto", GPU, "cuda: A100, driver 535.104.05, CUDA 12.1, 30.0 GiB free"),
        ("cpu", GPU, "there is a GPU"),
        ("auto", GpuFacts(torch_cuda="12.8"), "no GPU in this machine"),
        ("auto", GpuFacts(), "no GPU in this machine"),
        ("auto", replace(GPU, capability=(8, 6)), "cuda"),
        ("auto", replace(GPU, capability=(12, 0), architectures=("sm_90", "compute_90")), "cuda"),
    ],
)
def test_what_is_said_of_a_gpu(wanted: str, facts: GpuFacts, expected: str) -> None:
    assert expected in judge(wanted, facts)


@pytest.mark.parametrize(
    ("wanted", "facts", "number", "expected"),
    [
        ("cuda:1", GPU, "SMR-E421", "1 CUDA devices"),
        ("cuda", GpuFacts(torch_cuda="12.8"), "SMR-E421", "no NVIDIA driver is loaded"),
        ("auto", replace(GPU, count=0, torch_cuda=None), "SMR-E439", "built without CUDA"),
        ("auto", replace(GPU, count=0, torch_cuda="13.0"), "SMR-E439", "runs CUDA up to 12.2"),
        ("auto", replace(GPU, count=0, torch_cuda="12.8"), "SMR-E439", "no device answers"),
        ("auto", replace(GPU, capability=(7, 0)), "SMR-E439", "of generation 7.0"),
        ("auto", replace(GPU, capability=(12, 0)), "SMR-E439", "of generation 12.0"),
        ("auto", replace(GPU, free_bytes=1 << 20), "SMR-E439", "other processes hold its memory"),
    ],
)
def test_what_is_wrong_with_a_gpu(wanted: str, facts: GpuFacts, number: str, expected: str) -> None:
    with pytest.raises(SmrfedError, match=expected) as caught:
        judge(wanted, facts)
    assert caught.value.code == number


def test_network_file_systems_are_refused_for_the_ledger(site: CheckedSite, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"35 21 0:40 / {tmp_path} rw,relatime shared:3 master:1 - nfs4 server:/export rw\n"
        f"36 35 0:41 / {tmp_path}/elsewhere rw - ext4 /dev/sdb rw\n"
    )
    assert file_system(Path("/etc"), mounts) == "ext4"
    assert code(check_file_system, site, mounts) == "SMR-E441"
    mounts.write_text(mounts.read_text() + f"40 35 0:9 / {tmp_path} rw - xfs /dev/sdc rw\n")
    assert check_file_system(site, mounts) == "xfs, SQLite with WAL works"
    mounts.write_text(f"40 35 0:9 / {tmp_path} rw - tmpfs none rw\n")
    assert isinstance(check_file_system(site, mounts), Note)
    assert not list(site.config.state_dir.glob(".smrfed-check*"))


def test_a_folder_that_cannot_be_written(site: CheckedSite) -> None:
    assert "is writable" in check_writable(site)
    broken = site.config.model_copy(update={"state_dir": Path("/proc/1/smrfed")})
    assert code(check_writable, CheckedSite(broken)) == "SMR-E442"
    assert code(check_file_system, CheckedSite(broken)) == "SMR-E441"


def test_too_little_memory(tmp_path: Path) -> None:
    facts = tmp_path / "meminfo"
    facts.write_text("MemTotal: 2000000 kB\nMemAvailable: 1000 kB\n")
    assert code(check_memory, facts) == "SMR-E440"
    facts.write_text("nothing of use")
    with pytest.raises(NotLookedAt):
        check_memory(facts)


def test_open_keys_are_named(site: CheckedSite) -> None:
    join(site)
    check_modes(site)
    connection = site.connection_folder
    # What `up` would refuse is found here: a key that its group can read among it.
    for path, mode in (
        (site.state.key, 0o640), (connection.node_key, 0o604), (connection.node_key, 0o640),
    ):  # fmt: skip
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(SmrfedError, match=path.name) as caught:
            check_modes(site)
        assert caught.value.code == "SMR-E443"
        path.chmod(before)
    site.config.policy.chmod(0o666)
    assert code(check_modes, site) == "SMR-E443"


def test_the_socket_path(site: CheckedSite) -> None:
    assert "103 bytes" in check_socket(site)
    long = site.config.model_copy(update={"socket": Path("/run") / ("x" * 100)})
    assert code(check_socket, CheckedSite(long)) == "SMR-E411"


def test_joining_and_its_files(site: CheckedSite) -> None:
    assert isinstance(check_joined(site), Note)
    with pytest.raises(NotLookedAt):
        check_courier(site)
    join(site)
    assert check_joined(again(site)) == "as clinic-a, to c.example:443"
    assert "pinned bundles aaaaaaaaaaaa" in check_courier(again(site))
    site.connection_folder.node_key.unlink()
    assert code(check_joined, again(site)) == "SMR-E447"
    join(site, name="other")
    assert code(check_joined, again(site)) == "SMR-E447"
    site.connection_folder.file.write_text("site = 3")
    assert code(check_joined, again(site)) == "SMR-E460"
    join(site)
    text = site.connection_folder.file.read_text()
    site.connection_folder.file.write_text(text.replace("version = 1", "version = 2"))
    assert code(check_courier, again(site)) == "SMR-E445"


def test_release_hours_speak_the_hospitals_own_time(site: CheckedSite) -> None:
    assert check_release_hours(site) == "data may leave at any hour"
    hours = '\n[[release_hours]]\nstart = "08:00"\nend = "18:00"\ntimezone = "Europe/Berlin"\n'
    site.config.policy.write_text(POLICY_TOML + hours)
    night = datetime(2026, 7, 1, 20, 30, tzinfo=UTC)
    text = check_release_hours(site, night)
    assert text.startswith("closed until Thu 2026-07-02 08:00; it is Wed 22:30 in Europe/Berlin")
    assert check_release_hours(site, datetime(2026, 7, 1, 6, 0, tzinfo=UTC)).startswith("open now")


def test_looking_at_the_ledger_makes_none(site: CheckedSite) -> None:
    assert "0 events" in check_ledger(site)
    assert not site.state.ledger.exists()


def test_what_quality_control_left(site: CheckedSite) -> None:
    assert isinstance(check_quality(site), Note)
    table = site.state.derivatives / "quality.tsv"
    table.parent.mkdir(parents=True)
    head = "participant_id\tsession_id\tscan\tverdict\tused\tdecision\treasons\n"
    rows = [
        "sub-Mueller\tn/a\tab\tpass\tyes\tn/a\tn/a\n",
        "sub-Maier\tn/a\tcd\treview\tno\tn/a\tx\n",
    ]
    table.write_text(head + "".join(rows))
    found = check_quality(site)
    assert isinstance(found, Note)
    assert found.startswith("2 scans prepared, 1 used, 1 wait for review")
    table.write_text(head + rows[1])
    assert code(check_quality, site) == "SMR-E444"


def test_what_runs(site: CheckedSite, tmp_path: Path) -> None:
    assert isinstance(check_agent(site), Note)
    for number, line in ((17, b"python\0/usr/bin/flower-supernode\0--x\0"), (18, b"bash\0")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_bytes(line)
    assert check_supernode(site, tmp_path) == "process 17"
    assert isinstance(check_supernode(site, tmp_path / "17"), Note)


def test_every_group_has_checks_and_only_chooses(site: CheckedSite) -> None:
    assert {check.group for check in checks_of(site)} == set(GROUPS)
    path = str(site.config.policy.parent / "site.toml")
    result = CliRunner().invoke(app, ["check", path, "--only", "records", "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert [check["what"] for check in report["checks"]] == ["ledger", "receipts"]
    assert CliRunner().invoke(app, ["check", path, "--only", "nothing"]).exit_code == 2
    assert CliRunner().invoke(app, ["check", path, "--coordinator", "a b:1"]).exit_code == 2


def test_the_command_on_a_joined_site_with_a_live_and_a_dead_network(
    site: CheckedSite, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "Federation Authority")
    path = str(site.config.policy.parent / "site.toml")
    with coordinator(authority.server()) as port:
        join(site, f"127.0.0.1:{port}")
        site.connection_folder.authority.write_bytes(authority.file.read_bytes())
        result = CliRunner().invoke(app, ["check", path, "--only", "network", "--json"])
    report = json.loads(result.stdout)
    assert report["ready"], report
    assert [check["level"] for check in report["checks"]] == ["ok"] * 6
    with black_hole() as port:
        join(site, f"127.0.0.1:{port}")
        begin = time.monotonic()
        result = CliRunner().invoke(app, ["check", path, "--only", "network", "--json"])
        assert time.monotonic() - begin < 60  # bounded; about five seconds on an idle machine
    report = json.loads(result.stdout)
    levels = {check["what"]: check["level"] for check in report["checks"]}
    assert levels["connection"] == "problem"
    assert [levels[w] for w in ("certificate", "coordinator", "clock")] == ["skipped"] * 3
    assert isinstance(result.exception, SmrfedError)
    assert result.exception.code == "SMR-E420"
    offline = CliRunner().invoke(app, ["check", path, "--only", "network", "--offline", "--json"])
    assert json.loads(offline.stdout) == {"ready": True, "checks": []}


def test_a_wrong_proxy_is_one_checks_problem(site: CheckedSite) -> None:
    path = site.config.policy.parent / "site.toml"
    text = site_toml("clinic-a").replace("[network]\n", '[network]\nproxy = "socks5://h:1"\n')
    path.write_text(text)
    join(site)
    result = CliRunner().invoke(
        app, ["check", str(path), "--only", "network", "--only", "records", "--json"]
    )
    found = {c["what"]: c["code"] for c in json.loads(result.stdout)["checks"]}
    assert found["name"] == "SMR-E432"
    assert found["ledger"] is None


def test_the_json_quotes_no_table(site: CheckedSite) -> None:
    archive = site.config.archive
    archive.mkdir()
    (archive / "dataset_description.json").write_text("{}")
    table = "participant_id\tdiagnosis\nsub-Schmidtkowski\tUNHEARDOF\n"
    (archive / "participants.tsv").write_text(table)
    path = str(site.config.policy.parent / "site.toml")
    on_screen = CliRunner().invoke(app, ["check", path, "--only", "data"])
    assert "Schmidtkowski" in on_screen.stdout or "UNHEARDOF" in on_screen.stdout
    result = CliRunner().invoke(app, ["check", path, "--only", "data", "--json"])
    assert "Schmidtkowski" not in result.stdout
    assert "UNHEARDOF" not in result.stdout
    assert json.loads(result.stdout)["checks"][0]["code"]
