"""The Kubernetes manifests: valid by the published schemas, and as locked down as the pages say."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
NGINX = FOLDER.parent / "nginx"


def plain() -> list[dict[str, Any]]:
    """The objects of the files, as they are."""
    files = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))["resources"]
    texts = [(FOLDER / f).read_text("utf-8") for f in files if (FOLDER / f).is_file()]
    return [o for text in texts for o in yaml.safe_load_all(text) if o]


def one(kind: str) -> dict[str, Any]:
    (found,) = [item for item in plain() if item["kind"] == kind]
    return found


POD: dict[str, Any] = one("StatefulSet")["spec"]["template"]["spec"]
CONTAINERS = [*POD["initContainers"], *POD["containers"]]


def check(objects: list[dict[str, Any]]) -> None:
    """By the published schemas, strictly: a field that does not exist is an error."""
    reason = "kubernetes-validate is not installed: it carries the published schemas"
    published = pytest.importorskip("kubernetes_validate", reason=reason)
    for item in objects:
        published.validate(item, published.latest_version(), strict=True)


def test_every_object_follows_the_published_schema() -> None:
    check(plain())
    wrong = one("StatefulSet")
    wrong["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True
    with pytest.raises(Exception, match="readOnly"):
        check([wrong])


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda c: str(c["name"]))
def test_every_container_meets_the_restricted_standard(container: dict[str, Any]) -> None:
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    pod = POD["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] >= 10000
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & POD.keys()
    labels = one("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def mounts(name: str) -> Iterator[tuple[str, str]]:
    (container,) = [c for c in CONTAINERS if c["name"] == name]
    for mount in container["volumeMounts"]:
        yield mount["name"], mount.get("subPath", "")


def test_only_nginx_is_reached_and_it_does_not_see_the_authority() -> None:
    (service,) = [item for item in plain() if item["kind"] == "Service"]
    assert [p["targetPort"] for p in service["spec"]["ports"]] == ["fleet"]
    ports = {
        p["name"]: (c["name"], p["containerPort"]) for c in CONTAINERS for p in c.get("ports", ())
    }
    assert ports == {"fleet": ("nginx", 8443)}
    seen = {sub for name, sub in mounts("nginx") if name == "home"}
    assert seen == {f"home/pki/{n}" for n in ("server.crt", "server.key", "ca.crt")}


def test_nothing_goes_out_and_only_one_port_lets_in() -> None:
    spec = one("NetworkPolicy")["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert "egress" not in spec
    assert spec["podSelector"] == {}
    assert spec["ingress"] == [{"ports": [{"port": 8443}]}]


def test_there_is_one_coordinator_and_its_keys_keep_their_mode() -> None:
    spec = one("StatefulSet")["spec"]
    assert spec["replicas"] == 1
    # fsGroup would open the keys to the group if the home were the volume's own folder.
    (home,) = {
        e["value"] for c in CONTAINERS for e in c.get("env", ()) if e["name"] == "SMRFED_HOME"
    }
    (coordinator,) = [c for c in CONTAINERS if c["name"] == "coordinator"]
    (place,) = [m["mountPath"] for m in coordinator["volumeMounts"] if m["name"] == "home"]
    assert Path(home).parent == Path(place)
    assert POD["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_puts_it_together() -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    objects = [item for item in yaml.safe_load_all(built.stdout) if item]
    assert {item["metadata"].get("namespace", "smrfed") for item in objects} == {"smrfed"}
    maps = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "ConfigMap"}
    (files,) = [data for name, data in maps.items() if name.startswith("smrfed-nginx")]
    assert files["smrfed.conf"] == (NGINX / "smrfed.conf").read_text("utf-8")
    named = json.dumps([o for o in objects if o["kind"] == "StatefulSet"])
    assert all(name in named for name in maps), "the pod must name the maps with their hashes"
    check(objects)
