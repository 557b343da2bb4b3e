"""Calls to a SuperLink that is not there, or not ours, fail with a number."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.flower.control import ControlApi
from shared_model.errors import SmrfedError
from simulations.deployed.pki import create_node_key, issue_server_certificate
from simulations.deployed.processes import free_ports


def test_an_absent_superlink_is_named(tmp_path: Path) -> None:
    authority = issue_server_certificate(tmp_path).authority
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with ControlApi(address, authority) as control:
        with pytest.raises(SmrfedError, match=address) as raised:
            control.online_sites()
        assert raised.value.code == "SMR-E550"
        with pytest.raises(SmrfedError, match="registering the node key of 'north'"):
            control.register_node("north", create_node_key(tmp_path / "north"))
