"""The names of Flower beyond its documented interface that smrfed relies on, at the pinned version.

When this fails after an upgrade of flwr, read server/flower/control.py, server/flower/fab.py and
server/flower/transport.py beside Flower's changes, then move the pin.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version

import flwr.cli.build
import pytest
from flwr.proto import control_pb2
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.run_pb2 import Run, RunStatus
from flwr.serverapp import Grid
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.superexec import run_superexec


def test_the_pinned_version_is_installed() -> None:
    assert version("flwr") == "1.41.0"


def test_the_bundle_builder_takes_a_directory() -> None:
    assert list(inspect.signature(flwr.cli.build.build_fab_from_disk).parameters) == ["app"]


@pytest.mark.parametrize("call", ["RegisterNode", "ListNodes", "StartRun", "ListRuns", "StopRun"])
def test_the_control_client_has_the_calls(call: str) -> None:
    assert list(inspect.signature(getattr(ControlHttpClient, call)).parameters) == [
        "self",
        "request",
    ]


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (control_pb2.RegisterNodeRequest, {"public_key", "name"}),
        (control_pb2.StartRunRequest, {"fab", "override_config"}),
        (control_pb2.StopRunRequest, {"run_id"}),
        (control_pb2.ListRunsRequest, {"run_id"}),
        (control_pb2.ListRunsResponse, {"run_dict"}),
        (control_pb2.ListNodesResponse, {"nodes_info"}),
        (Run, {"status"}),
        (RunStatus, {"status", "sub_status", "details"}),
        (NodeInfo, {"node_id", "name", "status", "last_activated_at"}),
    ],
)
def test_the_messages_have_the_fields(message: type, fields: set[str]) -> None:
    assert fields <= {field.name for field in message.DESCRIPTOR.fields}


def test_the_grid_lists_nodes_with_their_names() -> None:
    assert "NodeInfo" in str(inspect.signature(Grid.get_nodes).return_annotation)


def test_a_bundle_is_sent_as_hash_content_and_verifications() -> None:
    assert list(inspect.signature(Fab).parameters) == [
        "hash_str",
        "content",
        "verifications",
    ]


def test_the_superexec_reads_its_poll_interval_from_the_environment() -> None:
    assert run_superexec._TASK_POLL_INTERVAL_ENV == "FLWR_SUPEREXEC_TASK_POLL_INTERVAL"
    assert run_superexec._MIN_TASK_POLL_INTERVAL_SECONDS <= 0.1
