"""What an attacker on another machine gets: run in a network namespace of its own, prints JSON.

Usage: ``python outside_probe.py HOST PORT CA NODE_KEY``; NODE_KEY is that of a registered site.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
)
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

TRICKS = (
    "/v1/fleet/../control/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs",
    "/v1/fleet/..%2fcontrol/list-runs",
    "//v1/control/list-runs",
    "/v1/fleet/;/../../v1/control/list-runs",
    "/V1/CONTROL/list-runs",
    "/health/../v1/control/list-runs",
    "/smrfed/enrol/../../v1/control/list-runs",
)
PLAIN = ("/", "/docs", "/openapi.json", "/redoc", "/metrics", "/v1/control/list-runs",
         "/v1/runtime/acquire-task", "/dashboard")  # fmt: skip


class Probe:
    """Tries everything against one address."""

    def __init__(self, host: str, port: int, authority: Path) -> None:
        self.host, self.port = host, port
        self.address = f"{host}:{port}"
        self.authority = authority.read_bytes()
        self.trust = ssl.create_default_context(cafile=str(authority))

    def open_ports(self) -> list[int]:
        """Every TCP port that accepts a connection."""
        found = []
        for port in range(1, 65536):
            with socket.socket() as one:
                one.settimeout(2.0)
                if one.connect_ex((self.host, port)) == 0:
                    found.append(port)
        return found

    def raw(self, method: str, path: str) -> int:
        """The status of a request whose path nobody tidies."""
        request = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: 0\r\n"
        with (
            socket.create_connection((self.host, self.port), 30) as plain,
            self.trust.wrap_socket(plain, server_hostname=self.host) as tls,
        ):
            tls.sendall((request + "Connection: close\r\n\r\n").encode())
            answer = b""
            while block := tls.recv(65536):
                answer += block
        return int(answer.split(b" ", 2)[1])

    def plain_http(self) -> int:
        """The status of a request without TLS."""
        return httpx.get(f"http://{self.address}/health", trust_env=False).status_code

    def control(self) -> dict[str, Any]:
        """The calls with which a coordinator starts runs and admits nodes."""
        client = ControlHttpClient.from_server_address(
            server_address=self.address, insecure=False, root_certificates=self.authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="smrfed")],
        )  # fmt: skip
        return {
            "list-runs": outcome(lambda: client.ListRuns(ListRunsRequest())),
            "list-nodes": outcome(lambda: client.ListNodes(ListNodesRequest())),
            "start-run": outcome(lambda: client.StartRun(StartRunRequest())),
            "register-node": outcome(
                lambda: client.RegisterNode(RegisterNodeRequest(public_key=b"k", name="x"))
            ),
        }

    def runtime(self) -> Any:
        """Take a task."""
        client = RuntimeHttpClient.from_server_address(
            server_address=self.address, insecure=False, root_certificates=self.authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec")],
        )  # fmt: skip
        request = AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
        return outcome(lambda: client.AcquireTask(request))

    def fleet(self, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
        """Register and activate a node with a key."""
        client = FleetHttpClient.from_server_address(
            self.address, False, self.authority,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
        )  # fmt: skip
        public = public_key_to_bytes(key.public_key())
        done: dict[str, Any] = {
            "register": outcome(
                lambda: client.RegisterNode(RegisterNodeFleetRequest(public_key=public))
            )
        }
        with contextlib.suppress(httpx.HTTPError):
            done["activate"] = "refused"
            request = ActivateNodeRequest(public_key=public, heartbeat_interval=30)
            node = client.ActivateNode(request).node_id
            done["activate"] = "done"
            client.DeactivateNode(DeactivateNodeRequest(node_id=node))
        return done


def outcome(call: Any) -> Any:
    """The status with which a call is refused; "done" when it is not."""
    try:
        call()
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    return "done"


def main() -> None:
    """Print what was possible."""
    host, port, authority, node_key = sys.argv[1:]
    probe = Probe(host, int(port), Path(authority))
    registered = load_ssh_private_key(Path(node_key).read_bytes(), password=None)
    assert isinstance(registered, ec.EllipticCurvePrivateKey)
    found = {
        "ports": probe.open_ports(),
        "plain http": probe.plain_http(),
        "health": probe.raw("GET", "/health"),
        "get": {path: probe.raw("GET", path) for path in (*PLAIN, *TRICKS)},
        "post": {path: probe.raw("POST", path) for path in (*PLAIN, *TRICKS)},
        "enrol": probe.raw("POST", "/smrfed/enrol/"),
        "control": probe.control(),
        "runtime": probe.runtime(),
        "stranger": probe.fleet(ec.generate_private_key(ec.SECP384R1())),
        "registered": probe.fleet(registered),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
