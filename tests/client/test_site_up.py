"""What ``smrfed-site up`` would start, and what it says about a SuperNode that is refused."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from client.config import SiteConfig
from client.enrolment.connection import Connection
from client.supervisor.up import check_site, explain_node, gave_up, site_specs, state_file
from shared_model.errors import SmrfedError
from shared_model.supervision.process_spec import ProcessState
from shared_model.supervision.secret_file import ensure_secret
from simulations.deployed.pki import create_node_key, issue_server_certificate


def now() -> datetime.datetime:
    """Not of the import: a certificate that a test makes later would not be valid yet."""
    return datetime.datetime.now(datetime.UTC)


_SITE = """
name = "north"
archive = "archive"
state_dir = "state"
coordinator_key = "coordinator.pub"
policy = "policy.toml"
socket = "run/agent.sock"
socket_group = "smrfed-socket"
connection_dir = "network"
[labels]
CN = ["CN"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(_SITE)
    site = SiteConfig.load(path)
    create_node_key(site.connection.node_key)
    authority = issue_server_certificate(tmp_path / "pki").authority
    site.connection.authority.write_bytes(authority.read_bytes())
    site.connection.save(
        Connection(
            site="north",
            superlink="fl.example.org:443",
            coordinator="00",
            courier_sha256=("a" * 64,),
            protocol_version=1,
        )
    )
    ensure_secret(site.state_dir / "site.key")
    return path


def test_the_agent_starts_first_and_ends_last(config: Path) -> None:
    site = SiteConfig.load(config)
    assert [s.name for s in site_specs(config, site, "all")] == [
        "agent", "node", "courier", "renewal",
    ]  # fmt: skip
    assert [s.name for s in site_specs(config, site, "agent")] == ["agent"]
    assert [s.name for s in site_specs(config, site, "network")] == ["node", "courier"]


def test_the_network_part_writes_and_needs_its_own_folder_only(config: Path) -> None:
    site = SiteConfig.load(config)
    network = config.parent / "network"
    for spec in site_specs(config, site, "network"):
        assert spec.log.is_relative_to(network)
        assert spec.environment["FLWR_HOME"] == str(network / "flower")
        assert str(site.state_dir) not in " ".join(spec.command)
        assert str(site.archive) not in " ".join(spec.command)
    assert state_file(site, "network").is_relative_to(network)
    (agent,) = site_specs(config, site, "agent")
    assert not agent.log.is_relative_to(network)
    assert str(network) not in " ".join(agent.command)


def test_each_part_looks_only_at_what_is_its_own(config: Path) -> None:
    site = SiteConfig.load(config)
    for part in ("all", "agent", "network"):
        check_site(site, part, now())  # type: ignore[arg-type]
    (site.state_dir / "site.key").chmod(0o644)
    check_site(site, "network", now())
    with pytest.raises(SmrfedError, match="SMR-E473"):
        check_site(site, "agent", now())
    (site.state_dir / "site.key").chmod(0o600)
    site.connection.node_key.chmod(0o644)
    check_site(site, "agent", now())
    with pytest.raises(SmrfedError, match="SMR-E473"):
        check_site(site, "network", now())


@pytest.mark.parametrize("days", [-400, 40, 40000])
def test_a_clock_or_an_authority_that_cannot_be_right(config: Path, days: int) -> None:
    with pytest.raises(SmrfedError, match="SMR-E477"):
        check_site(SiteConfig.load(config), "network", now() + datetime.timedelta(days=days))


def test_plain_http_is_refused(config: Path) -> None:
    site = SiteConfig.load(config)
    connection = site.connection.load().model_copy(update={"superlink": "fl.example.org:80"})
    site.connection.save(connection)
    with pytest.raises(SmrfedError, match="plain HTTP"):
        check_site(site, "network", now())


def test_a_supernode_that_is_refused_is_explained(config: Path) -> None:
    refused = "Failed to activate SuperNode with node ID 1"
    assert "SMR-E478" in str(explain_node(refused))
    assert "pinned" in str(explain_node("ssl: CERTIFICATE_VERIFY_FAILED"))
    late = "CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid"
    assert "clock" in str(explain_node(late))
    assert explain_node("Sent successfully") is None
    spec = site_specs(config, SiteConfig.load(config), "agent")[0]
    error = gave_up(spec, ProcessState("agent", "given up", exit_status=1, detail="x"), "tail")
    assert error.code == "SMR-E471"
    assert "tail" in str(error)
    assert str(spec.log) in str(error)


def test_refused_bundles_are_listed(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from client.commands.receipts import app
    from client.courier.refused_bundles import FILE_NAME, note_bundle

    monkeypatch.setenv("COLUMNS", "200")
    line = ["bundles", "--config", str(config)]
    assert "no app bundle" in CliRunner().invoke(app, line).stdout
    note_bundle(SiteConfig.load(config).connection.path / FILE_NAME, "ab" * 32, "7\x1b[31m", 99)
    shown = CliRunner().invoke(app, line).stdout
    assert "ab" * 32 in shown
    assert "\x1b" not in shown
    assert CliRunner().invoke(app, [*line, "--json"]).stdout.count("ab" * 32) == 1


def test_whom_the_agent_obeys_is_not_decided_in_the_network_accounts_folder(config: Path) -> None:
    site = SiteConfig.load(config)
    for decides in (site.coordinator_key, site.next_coordinator_key, site.policy):
        assert not decides.is_relative_to(site.connection.path)
