"""The systemd units: accepted by systemd, hardened, with accounts and folders that fit together."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from client.config import SiteConfig

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
DAEMONS = ("smrfed-agent.service", "smrfed-coordinator.service", "smrfed-network.service")
ANALYZE = shutil.which("systemd-analyze")
HIGHEST = 2.0  # of 10; systemd calls up to 2 good


def need(program: str | None, name: str) -> str:
    if program is None:
        pytest.skip(f"{name} is not installed")
    return program


def settings(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).extend(value.split() or [""])
    return found


def installed(folder: Path) -> Path:
    """The units, with programs that exist on this machine: verify looks for them."""
    (folder / "bin").mkdir()
    for name in ("smrfed-site", "smrfed-coordinator"):
        (folder / "bin" / name).symlink_to("/bin/true")
    for unit in FOLDER.iterdir():
        if unit.suffix in (".service", ".path", ".timer"):
            text = unit.read_text("utf-8").replace("/opt/smrfed/current/bin", str(folder / "bin"))
            (folder / unit.name).write_text(text, "utf-8")
    return folder


def security(unit: Path) -> float:
    out = subprocess.run(
        [need(ANALYZE, "systemd-analyze"), "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", out)
    assert found, out
    return float(found[1])


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit_without_a_word(name: str, tmp_path: Path) -> None:
    command = [need(ANALYZE, "systemd-analyze"), "verify", str(installed(tmp_path) / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "smrfed" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize("name", DAEMONS)
def test_the_unit_is_hardened(name: str, tmp_path: Path) -> None:
    assert security(FOLDER / name) <= HIGHEST
    plain = tmp_path / name
    plain.write_text("[Service]\nExecStart=/bin/true\n")
    assert security(plain) > 8


def test_a_gpu_costs_little_of_it(tmp_path: Path) -> None:
    unit = tmp_path / "smrfed-agent.service"
    drop_in = (FOLDER / "drop-ins" / "gpu.conf").read_text("utf-8")
    unit.write_text((FOLDER / unit.name).read_text("utf-8").replace("[Install]", drop_in), "utf-8")
    assert security(FOLDER / unit.name) < security(unit) <= HIGHEST


def test_the_agent_has_no_network_and_not_the_node_key() -> None:
    agent = settings("smrfed-agent.service")
    assert agent["PrivateNetwork"] == ["yes"]
    assert agent["IPAddressDeny"] == ["any"]
    assert agent["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert agent["InaccessiblePaths"] == ["-/var/lib/smrfed-network"]
    assert agent["LimitCORE"] == ["0"]


def test_the_network_part_sees_a_list_of_places_without_data() -> None:
    network = settings("smrfed-network.service")
    (root,) = network["RootDirectory"]
    assert f"d {root} 0755 root root" in (FOLDER / "tmpfiles-site.conf").read_text("utf-8")
    seen = {place.lstrip("-") for place in network["BindReadOnlyPaths"] + network["BindPaths"]}
    for place in seen:
        assert place == "/srv/smrfed/site.toml" or not place.startswith(("/srv", "/home", "/data"))
    assert {"/", "/var", "/var/lib", "/run", "/etc", "/mnt"}.isdisjoint(seen)
    assert network["User"] != settings("smrfed-agent.service")["User"]


@pytest.mark.parametrize("name", DAEMONS)
def test_a_unit_comes_back_for_ever_and_keeps_no_privilege(name: str) -> None:
    found = settings(name)
    assert found["Restart"] == ["always"]
    assert found["StartLimitIntervalSec"] == ["0"]
    # docs/deployment.md: a SuperNode that comes back at once is refused.
    assert name == "smrfed-coordinator.service" or int(found["RestartSec"][0]) >= 15
    assert found["CapabilityBoundingSet"] == [""]
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["User"] != ["root"]


def test_accounts_and_folders_are_made_as_the_units_need_them(tmp_path: Path) -> None:
    """By systemd's own tools, in a folder that stands for the file system."""
    sysusers = need(shutil.which("systemd-sysusers"), "systemd-sysusers")
    tmpfiles = need(shutil.which("systemd-tmpfiles"), "systemd-tmpfiles")
    if os.geteuid() != 0:
        pytest.skip("giving files to other accounts needs root")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    files = [str(path) for path in sorted(FOLDER.glob("sysusers-*.conf"))]
    subprocess.run([sysusers, f"--root={root}", *files], check=True, capture_output=True)
    lines = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
    users = {line[0]: int(line[2]) for line in lines}
    assert {settings(name)["User"][0] for name in DAEMONS} <= users.keys()
    assert all(line[6].endswith("nologin") for line in lines)
    groups = [line.split(":") for line in (root / "etc/group").read_text().splitlines()]
    members = {line[0]: line[3].split(",") for line in groups}
    assert set(members["smrfed-socket"]) == {"smrfed-agent", "smrfed-network"}
    made = [str(path) for path in sorted(FOLDER.glob("tmpfiles-*.conf"))]
    subprocess.run([tmpfiles, "--create", f"--root={root}", *made], check=True, capture_output=True)
    numbers = {line[0]: int(line[2]) for line in groups}
    facts = (root / "run/smrfed").stat()
    assert (facts.st_uid, facts.st_gid) == (users["smrfed-agent"], numbers["smrfed-socket"])
    assert facts.st_mode & 0o777 == 0o710
    for place, account in {
        "srv/smrfed/state": "smrfed-agent",
        "var/lib/smrfed-network": "smrfed-network",
        "var/lib/smrfed-coordinator": "smrfed-coordinator",
    }.items():
        facts = (root / place).stat()
        assert (facts.st_uid, facts.st_mode & 0o777) == (users[account], 0o700)


def test_the_sample_configuration_fits_the_units(tmp_path: Path) -> None:
    text = (FOLDER / "site.toml").read_text("utf-8")
    (tmp_path / "site.toml").write_text(text, "utf-8")
    site = SiteConfig.load(tmp_path / "site.toml")
    agent, network = settings("smrfed-agent.service"), settings("smrfed-network.service")
    assert str(site.socket.parent) in agent["ReadWritePaths"]
    assert str(site.socket.parent) in network["BindPaths"]
    assert str(site.connection.path) in network["BindPaths"]
    assert site.socket_group == agent["Group"][0] == network["Group"][0]
