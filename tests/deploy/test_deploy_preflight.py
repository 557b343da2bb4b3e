"""The pre-flight and the metrics against real Flower processes: what answers is what sites meet."""

from __future__ import annotations

import http.client
import ssl

import pytest
from loopback import SITES, Coordinator

from client.preflight.network.answer import MEDIA_TYPE, check_answer, check_large_body
from client.preflight.network.certificate import check_certificate
from client.preflight.network.clock import AHEAD_S, BEHIND_S, check_clock
from client.preflight.network.connection import check_connection
from client.preflight.network.way import Way
from server.config import CoordinatorConfig, CoordinatorFolder
from server.observability.coordinator_metrics import CoordinatorMetrics
from server.preflight.outside import CLOSED
from simulations.deployed.federation import DeployedFederation

pytestmark = pytest.mark.deploy


def test_the_way_to_a_real_superlink_is_in_order(federation: DeployedFederation) -> None:
    host, _, port = federation.address.rpartition(":")
    way = Way(host, int(port), None, federation.authority)
    for step in (check_connection, check_certificate, check_answer, check_clock):
        step(way)
    assert "got through" in check_large_body(way)


def test_the_clock_limits_and_the_media_type_are_flowers_own() -> None:
    from flwr.supercore.constant import MAX_TIMESTAMP_DIFF_SECONDS, MIN_TIMESTAMP_DIFF_SECONDS
    from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

    assert MEDIA_TYPE == PROTOBUF_MEDIA_TYPE
    assert (AHEAD_S, BEHIND_S) == (-MIN_TIMESTAMP_DIFF_SECONDS, MAX_TIMESTAMP_DIFF_SECONDS)


def test_a_bare_superlink_shows_what_the_outside_check_looks_for(
    federation: DeployedFederation,
) -> None:
    """The paths exist in this version of Flower, so that a closed one is closed and not gone."""
    host, _, port = federation.address.rpartition(":")
    trust = ssl.create_default_context(cafile=federation.authority)
    answers = {}
    for path in CLOSED:
        connection = http.client.HTTPSConnection(host, int(port), timeout=30, context=trust)
        connection.request("GET", path)
        answers[path] = connection.getresponse().status
        connection.close()
    open_paths = {path for path, status in answers.items() if status not in (403, 404)}
    assert {p for p in CLOSED if p.startswith(("/v1/", "/docs", "/openapi"))} <= open_paths, answers


def test_connected_sites_are_counted(
    federation: DeployedFederation, coordinator: Coordinator
) -> None:
    def online() -> frozenset[str]:
        with federation.control() as control:
            return control.online_sites()

    home = CoordinatorFolder(coordinator.folder / "home")
    home.path.mkdir()
    home.write_config(CoordinatorConfig(name="x", public_address="c.example:443"))
    text = CoordinatorMetrics(home, online)()
    assert f"smrfed_connected_sites {len(SITES)}" in text
    assert 'smrfed_site_connected{site="north"} 1' in text
