"""The compose files: valid, and as locked down as the pages say."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.config import SiteConfig

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
FILES = ("coordinator.yaml", "site.yaml", "site.gpu.yaml", "coordinator.dashboard.yaml")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}")


def read(name: str) -> dict[str, Any]:
    """A compose file with the defaults of its variables."""
    text = (FOLDER / name).read_text("utf-8")
    loaded: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(lambda m: m[2] or "/from-outside", text))
    return loaded


SERVICES = [
    pytest.param(name, service, facts, id=f"{name}:{service}")
    for name in FILES[:2]
    for service, facts in read(name)["services"].items()
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_follows_the_compose_specification(name: str) -> None:
    # The specification's schema comes with check-jsonschema; nothing of it is imported.
    spec = importlib.util.find_spec("check_jsonschema")
    if spec is None or spec.origin is None:
        pytest.skip("check-jsonschema is not installed: it carries the specification's schema")
    from jsonschema.validators import validator_for

    file = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(file.read_text("utf-8"))
    validator = validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(read(name))] == []
    wrong = read(name)
    next(iter(wrong["services"].values()))["cap_dropp"] = ["ALL"]
    assert list(validator.iter_errors(wrong))


@pytest.mark.parametrize(("name", "service", "facts"), SERVICES)
def test_every_container_is_locked_down(name: str, service: str, facts: dict[str, Any]) -> None:
    assert facts["read_only"] is True
    assert facts["cap_drop"] == ["ALL"]
    assert "cap_add" not in facts
    assert "no-new-privileges:true" in facts["security_opt"]
    assert not facts.get("privileged")
    assert int(facts["user"].split(":")[0]) >= 10000
    assert {"pids_limit", "mem_limit", "cpus"} <= set(facts)
    assert facts["healthcheck"].get("test") or facts["healthcheck"] == {"disable": True}
    assert all(place.startswith("/tmp:size=") for place in facts["tmpfs"])
    # A folder that somebody forgot to make must not be made by root.
    for mount in facts["volumes"]:
        if mount["type"] == "bind" and not mount["source"].startswith("../"):
            assert mount["bind"] == {"create_host_path": False}
    assert "docker.sock" not in json.dumps(facts)


@pytest.mark.parametrize(("name", "service", "facts"), SERVICES)
def test_no_secret_is_in_the_environment_or_on_a_command_line(
    name: str, service: str, facts: dict[str, Any]
) -> None:
    assert "environment" not in facts
    assert "env_file" not in facts
    words = [*facts.get("command", ()), *facts.get("entrypoint", ())]
    assert not [word for word in words if re.search("key|secret|token|password", word)]


def targets(facts: dict[str, Any]) -> set[str]:
    return {mount["target"] for mount in facts["volumes"]}


def test_the_agent_has_data_and_no_network() -> None:
    agent = read("site.yaml")["services"]["agent"]
    assert agent["network_mode"] == "none"
    assert "networks" not in agent
    assert {"/srv/archive", "/srv/smrfed/state", "/run/smrfed"} <= targets(agent)
    assert "/var/lib/smrfed-network" not in targets(agent)
    (archive,) = [m for m in agent["volumes"] if m["target"] == "/srv/archive"]
    assert archive["read_only"] is True


def test_the_network_part_has_the_node_key_and_no_data() -> None:
    services = read("site.yaml")["services"]
    network, agent = services["network"], services["agent"]
    assert targets(network) == {"/srv/smrfed/site.toml", "/var/lib/smrfed-network", "/run/smrfed"}
    assert network["user"] != agent["user"]
    assert not [n for n, s in services.items() if "ports" in s], "a site opens no port"


def test_who_joins_sees_no_scan_and_does_not_stay() -> None:
    join = read("site.yaml")["services"]["join"]
    assert join["profiles"] == ["setup"]
    assert join["restart"] == "no"
    assert "/srv/archive" not in targets(join)


def test_only_nginx_is_reached_from_outside() -> None:
    services = read("coordinator.yaml")["services"]
    assert services["coordinator"]["ports"] == ["443:8443"]
    assert services["nginx"]["network_mode"] == "service:coordinator"
    assert "ports" not in services["nginx"]
    here = (FOLDER.parent / "nginx" / "snippets" / "here-container.conf").read_text("utf-8")
    assert "listen 8443 ssl;" in here
    # Of the coordinator's folder it gets three files, none of them the authority's key.
    secrets = read("coordinator.yaml")["secrets"]
    assert {Path(s["file"]).name for s in secrets.values()} == {
        "server.crt",
        "server.key",
        "ca.crt",
    }
    assert not [m for m in services["nginx"]["volumes"] if "home" in m["source"]]


def test_the_dashboard_is_for_this_machine_alone() -> None:
    services = read("coordinator.dashboard.yaml")["services"]
    assert all(port.startswith("127.0.0.1:") for port in services["coordinator"]["ports"])


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_is_mounted_from_the_repository_is_there(name: str) -> None:
    for facts in read(name)["services"].values():
        for mount in facts.get("volumes", ()):
            if mount["source"].startswith("../"):
                assert (FOLDER / mount["source"]).is_file()


def test_the_sample_configuration_fits_the_containers(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_bytes((FOLDER / "site.toml").read_bytes())
    site = SiteConfig.load(tmp_path / "site.toml")
    agent = read("site.yaml")["services"]["agent"]
    assert str(site.archive) in targets(agent)
    assert str(site.socket.parent) in targets(agent)
    assert site.state_dir == tmp_path / "state"
    assert site.coordinator_key.parent == site.state_dir, "join could not write it elsewhere"
    network = read("site.yaml")["services"]["network"]
    assert str(site.connection.path) in targets(network)
    assert site.socket_group == "smrfed-socket"
