"""Write the gRPC code from ``agent.proto``: ``python -m client.agent.generate_proto [FOLDER]``.

The same command line by hand, in the repository root::

    python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. \
        client/agent/agent.proto
"""

from __future__ import annotations

import importlib.resources
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTO = "client/agent/agent.proto"


def generate(folder: Path = ROOT) -> None:
    """Write ``client/agent/agent_pb2*`` below ``folder``; needs the package grpcio-tools."""
    # Here, because a hospital's installation does not have it.
    from grpc_tools import protoc

    well_known = importlib.resources.files("grpc_tools") / "_proto"
    arguments = [
        f"-I{ROOT}",
        f"-I{well_known}",
        *(f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")),
        PROTO,
    ]
    if protoc.main(["protoc", *arguments]):
        sys.exit("protoc failed")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
