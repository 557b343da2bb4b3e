"""The units on a booted machine: coordinator, nginx and a hospital, by the steps of the README.

What a unit file promises is looked at from outside the process: its root, its network, its keys.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from booted import Machine, booted, debian, missing
from wheelhouses import wheelhouse

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]
DEPLOY = Path(__file__).parents[2] / "deploy"
HOME = "/var/lib/smrfed-coordinator"
CURL = ("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """smrfed installed from a wheelhouse without a network, units installed, nothing started.

    The wheelhouse is the coordinator's: nothing here needs torch, not even the hospital's side.
    """
    folder = tmp_path_factory.mktemp("machine")
    root = folder / "root"
    subprocess.run(["cp", "--archive", str(debian(folder)), str(root)], check=True)
    shutil.copytree(wheelhouse("coordinator", folder), root / "root" / "house")
    shutil.copytree(DEPLOY, root / "root" / "deploy")
    (root / "etc/hosts").write_text("127.0.0.1 localhost coordinator.test\n")
    (root / "etc/nginx/sites-enabled/default").unlink(missing_ok=True)
    with booted(root) as running:
        running.run("sh", "/root/house/install.sh", "/opt/smrfed/0.1.0")
        running.run("ln", "-sfn", "0.1.0", "/opt/smrfed/current")
        for party in ("coordinator", "site"):
            running.run("sh", "/root/deploy/systemd/install.sh", party)
        yield running


@pytest.fixture(scope="module")
def coordinator(machine: Machine) -> Machine:
    address = ("--home", HOME, "--address", "coordinator.test:443")
    machine.run("smrfed-coordinator", "init", *address, account="smrfed-coordinator")
    nginx = "/root/deploy/nginx"
    machine.run("install", "-D", f"{nginx}/smrfed.conf", "/etc/nginx/conf.d/smrfed.conf")
    here = f"{nginx}/snippets/here-vm.conf"
    machine.run("install", "-D", here, "/etc/nginx/smrfed.d/here.conf")
    units = ("smrfed-coordinator.service", "smrfed-certificate.path")
    machine.run("systemctl", "enable", "--now", *units)
    machine.run("nginx", "-t")
    machine.run("systemctl", "restart", "nginx")
    machine.wait(*CURL, f"{HOME}/pki/ca.crt", "https://coordinator.test/health", contains="200")
    machine.wait("ss", "-ltn", contains="127.0.0.1:18001")
    return machine


@pytest.fixture(scope="module")
def hospital(coordinator: Machine) -> Machine:
    machine = coordinator
    machine.run("smrfed-site", "init", "/srv/smrfed", "--name", "clinic-a")
    sample = (DEPLOY / "systemd" / "site.toml").read_text("utf-8")
    configuration = machine.root / "srv/smrfed/site.toml"
    configuration.write_text(sample.replace("my-hospital", "clinic-a"), "utf-8")
    invite = ("smrfed-coordinator", "invite", "clinic-a", "--home", HOME, "--json")
    token = json.loads(machine.run(*invite, account="smrfed-coordinator").stdout)["token"]
    join = ("smrfed-site", "join", "-", "--yes", "--config", "/srv/smrfed/site.toml")
    machine.run(*join, given=token)
    machine.run("sh", "/root/deploy/systemd/own-site.sh")
    machine.run("systemctl", "enable", "--now", "smrfed-agent", "smrfed-network")
    online(machine)
    return machine


def online(machine: Machine) -> None:
    """Wait until the SuperLink says that the hospital is connected."""
    ca = ("--root-certificates", f"{HOME}/pki/ca.crt", "--superlink", "127.0.0.1:18000")
    command = ("smrfed-coordinator", "flower", "online", *ca)
    machine.wait(*command, contains="clinic-a", account="smrfed-coordinator")


def status(machine: Machine, path: str) -> str:
    command = (*CURL, f"{HOME}/pki/ca.crt", "--request", "POST", f"https://coordinator.test{path}")
    return machine.run(*command, check=False).stdout


def test_only_nginx_listens_for_others(coordinator: Machine) -> None:
    lines = coordinator.run("ss", "-Hltn").stdout.splitlines()
    outside = [a for a in (line.split()[3] for line in lines) if not a.startswith("127.0.0.1:")]
    assert {address.rpartition(":")[2] for address in outside} == {"443"}
    for path in ("/v1/control/list-runs", "/v1/runtime/x", "/", "/metrics", "/docs"):
        assert status(coordinator, path) == "403"


def test_the_hospital_is_connected_through_nginx(hospital: Machine) -> None:
    log = (hospital.root / "var/log/nginx/smrfed.log").read_text()
    assert "/v1/fleet/activate-node" in log
    assert "/smrfed/enrol/" in log


def test_the_network_part_sees_its_list_of_places_and_no_more(hospital: Machine) -> None:
    root = f"/proc/{hospital.process_of('smrfed-network')}/root"

    def names(path: str) -> set[str]:
        return set(hospital.run("ls", "-A", f"{root}/{path}").stdout.split())

    assert names("srv") == {"smrfed"}
    assert names("srv/smrfed") == {"site.toml"}
    assert names("var/lib") == {"smrfed-network"}
    assert "node.key" in names("var/lib/smrfed-network")
    below = "bin dev etc lib lib64 opt proc root run sbin srv sys tmp usr var"
    assert names("") <= set(below.split())
    assert "shadow" not in names("etc")
    assert names("opt") == {"smrfed"}


def test_the_agent_has_no_network_and_no_node_key(hospital: Machine) -> None:
    agent = hospital.process_of("smrfed-agent")
    devices = hospital.run("cat", f"/proc/{agent}/net/dev").stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    here, there = (hospital.run("readlink", f"/proc/{p}/ns/net").stdout for p in ("1", agent))
    assert here != there
    key = f"/proc/{agent}/root/var/lib/smrfed-network"
    assert hospital.run("ls", "-A", key).stdout == ""


@pytest.mark.parametrize(
    ("unit", "account"),
    [
        ("smrfed-coordinator", "smrfed-coordinator"),
        ("smrfed-agent", "smrfed-agent"),
        ("smrfed-network", "smrfed-network"),
    ],
)
def test_a_unit_runs_without_any_privilege(hospital: Machine, unit: str, account: str) -> None:
    text = hospital.run("cat", f"/proc/{hospital.process_of(unit)}/status").stdout
    facts = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    user = int(hospital.run("id", "-u", account).stdout)
    assert {int(number) for number in facts["Uid"].split()} == {user}
    assert user != 0
    for capabilities in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(facts[capabilities], 16) == 0
    assert facts["NoNewPrivs"].strip() == "1"
    assert facts["Seccomp"].strip() == "2"


def test_accounts_cannot_read_each_others_keys(hospital: Machine) -> None:
    keys = {
        "/srv/smrfed/state/site.key": "smrfed-agent",
        "/var/lib/smrfed-network/node.key": "smrfed-network",
        f"{HOME}/coordinator.pem": "smrfed-coordinator",
    }
    for key, owner in keys.items():
        for account in keys.values():
            read = hospital.run("cat", key, account=account, check=False)
            assert (read.returncode == 0) == (account == owner), (key, account)
    # What the hospital decided, neither part can change.
    for file in ("site.toml", "policy.toml"):
        for account in ("smrfed-agent", "smrfed-network"):
            place = f"/srv/smrfed/{file}"
            assert hospital.run("test", "-w", place, account=account, check=False).returncode == 1


def test_what_is_killed_comes_back(hospital: Machine) -> None:
    before = hospital.process_of("smrfed-network")
    hospital.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "smrfed-network")
    again = ("systemctl", "show", "--property=NRestarts", "smrfed-network")
    hospital.wait(*again, contains="NRestarts=1")
    hospital.wait("systemctl", "is-active", "smrfed-network", contains="active")
    online(hospital)
    assert hospital.process_of("smrfed-network") not in (before, "0")


def test_a_renewed_certificate_is_served_without_a_person(hospital: Machine) -> None:
    ask = "import ssl; print(ssl.get_server_certificate(('127.0.0.1', 443)))"
    before = hospital.run("python", "-c", ask).stdout.strip()
    renew = ("smrfed-coordinator", "renew", "--force", "--home", HOME)
    hospital.run(*renew, account="smrfed-coordinator")
    end = "-----END CERTIFICATE-----"
    # The authority's follows it in the file.
    new = hospital.run("cat", f"{HOME}/pki/server.crt").stdout.split(end)[0].strip()
    assert new not in before
    hospital.wait("python", "-c", ask, contains=new)
    online(hospital)


def test_a_coordinator_from_its_backup_knows_its_hospitals(hospital: Machine) -> None:
    """Backup and restore as the README has them; the hospital does nothing."""
    archive = "/root/backup.tar"
    hospital.run("systemctl", "stop", "smrfed-coordinator")
    hospital.run("tar", "--create", "--file", archive, "--directory", HOME, ".")
    hospital.run("rm", "-rf", HOME)
    hospital.run("systemd-tmpfiles", "--create", "smrfed-coordinator.conf")
    hospital.run("tar", "--extract", "--same-owner", "--file", archive, "--directory", HOME)
    hospital.run("systemctl", "start", "smrfed-coordinator")
    hospital.wait(*CURL, f"{HOME}/pki/ca.crt", "https://coordinator.test/health", contains="200")
    online(hospital)
    listed = hospital.run(
        "smrfed-coordinator", "sites", "--home", HOME, "--json", account="smrfed-coordinator"
    )
    assert "clinic-a" in listed.stdout
