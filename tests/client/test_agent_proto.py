"""The generated gRPC code is what the installed compiler makes of agent.proto."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_generating_again_gives_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    from client.agent.generate_proto import ROOT, generate

    generate(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*"))
    assert [path.name for path in made] == ["agent_pb2.py", "agent_pb2.pyi", "agent_pb2_grpc.py"]
    for path in made:
        assert (tmp_path / path).read_bytes() == (ROOT / path).read_bytes(), path
