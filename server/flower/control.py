"""The coordinator's hand on a SuperLink: register node keys, start runs, see how they end.

Flower offers these calls through its command line only; a process per call would cost a second of a
core each, so this module speaks the same Control API with Flower's own client. The Control API has
no authentication in Flower's open distribution: it must be reachable from the coordinator's machine
alone (docs/deployment.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.cli.build import build_fab_from_disk
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from server.flower.fab import AppBundle
from shared_model.errors import SmrfedError

# Runs asked for at a time; the SuperLink gives the newest first.
_PAGE = 50


@dataclass(frozen=True)
class RunStatus:
    """Where a Flower run stands: ``pending``, ``starting``, ``running``, ``finished``, and how."""

    status: str
    sub_status: str
    details: str

    @property
    def finished(self) -> bool:
        """Whether the run has ended, well or not."""
        return self.status == "finished"

    @property
    def completed(self) -> bool:
        """Whether the run has ended well."""
        return self.finished and self.sub_status == "completed"


class ControlApi:
    """A connection to the Control API of one SuperLink; a context manager.

    Every method raises SMR-E550 when the SuperLink cannot be reached or refuses.
    """

    def __init__(self, address: str, authority: Path) -> None:
        self._address = address
        self._client = ControlHttpClient.from_server_address(
            server_address=address,
            insecure=False,
            root_certificates=authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="smrfed")],
        )

    def __enter__(self) -> ControlApi:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def register_node(self, site: str, public_key: Path | bytes) -> int:
        """Admit the SuperNode that holds the OpenSSH key ``public_key`` as the site's node."""
        line = public_key if isinstance(public_key, bytes) else public_key.read_bytes()
        key = _node_key_bytes(line)
        with self._calling(f"registering the node key of {site!r}"):
            return int(
                self._client.RegisterNode(RegisterNodeRequest(public_key=key, name=site)).node_id
            )

    def unregister_node(self, node_id: int) -> None:
        """Refuse the SuperNode from now on; its key cannot be registered again."""
        with self._calling(f"unregistering node {node_id}"):
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def find_node(self, site: str, public_key: bytes) -> int | None:
        """The node that is registered under this name with this OpenSSH key, if there is one."""
        key = _node_key_bytes(public_key)
        with self._calling("listing nodes"):
            nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        alive = (node for node in nodes if node.status != "unregistered")
        return next((int(n.node_id) for n in alive if (n.name, n.public_key) == (site, key)), None)

    def node_exists(self, node_id: int) -> bool:
        """Whether a node with this id is registered."""
        with self._calling("listing nodes"):
            nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return any(n.node_id == node_id and n.status != "unregistered" for n in nodes)

    def online_sites(self) -> frozenset[str]:
        """Names of the registered SuperNodes that are online."""
        with self._calling("listing nodes"):
            nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return frozenset(node.name for node in nodes if node.status == "online")

    def start_run(self, bundle: AppBundle, run_dir: Path) -> int:
        """Start the ServerApp on a run directory, new or half-done; returns Flower's run id."""
        content = build_fab_from_disk(bundle.directory)
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        request = StartRunRequest(
            fab=fab_to_proto(fab),
            override_config=user_config_to_proto({"run-dir": str(run_dir.resolve())}),
        )
        with self._calling("starting a run"):
            return int(self._client.StartRun(request).run_id)

    def newest_run(self, run_dir: Path) -> tuple[int, RunStatus] | None:
        """The newest run on this run directory, and how it stands; none: there never was one."""
        wanted, skip = str(run_dir.resolve()), 0
        with self._calling("listing runs"):
            while True:
                page = self._client.ListRuns(ListRunsRequest(limit=_PAGE, skip=skip)).run_dict
                newest = sorted(page.values(), key=lambda run: run.pending_at, reverse=True)
                for run in newest:
                    if run.override_config["run-dir"].string == wanted:
                        status = run.status
                        found = RunStatus(status.status, status.sub_status, status.details)
                        return int(run.run_id), found
                if len(page) < _PAGE:
                    return None
                skip += _PAGE

    def run_status(self, run_id: int) -> RunStatus:
        """How a run stands."""
        with self._calling("asking for a run's status"):
            status = self._client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id].status
        return RunStatus(status.status, status.sub_status, status.details)

    def stop_run(self, run_id: int) -> None:
        """Stop a run; its checkpoints stay, and a new run on the same directory goes on."""
        with self._calling("stopping a run"):
            self._client.StopRun(StopRunRequest(run_id=run_id))

    @contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            said = error.response.text[:300] if isinstance(error, httpx.HTTPStatusError) else ""
            raise SmrfedError(
                "SMR-E550",
                f"{what}: the SuperLink at {self._address} did not agree",
                found=f"{type(error).__name__}: {error} {said}",
                remedy="check that flower-superlink runs and that its certificate comes from the "
                "authority in use, then try again",
            ) from None


def _node_key_bytes(openssh: bytes) -> bytes:
    key = load_ssh_public_key(openssh)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError(f"a node key is an elliptic curve key, not {type(key).__name__}")
    return bytes(public_key_to_bytes(key))
