"""What a hostile coordinator, courier or stranger may send to an agent, and the number it gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from agent_site import Hospital
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.agent.agent_pb2 import Chunk, Opening
from client.agent.wire import CHUNK_BYTES
from shared_model.plan import FederationPlan
from shared_model.protocol.acknowledgement import Received, countersign
from shared_model.protocol.arrays import encode_arrays
from shared_model.protocol.sealed import Sealed, seal

OTHER_KEY = Ed25519PrivateKey.generate()
HANDLE = "/smrfed.agent.v1.Agent/Handle"


@dataclass(frozen=True)
class Attack:
    """A message, and the number under which it must be refused."""

    name: str
    message: Sealed
    code: str


def attacks(hospital: Hospital, arrays: dict[str, np.ndarray], newest: int) -> Iterator[Attack]:
    """Sealed messages against a site whose newest answered round is ``newest`` (2 or more)."""
    coordinator, plan = hospital.coordinator, hospital.plan
    first = sorted(arrays)[0]
    following = newest + 1

    def ask(content: Any, number: int = following, kind: str = "train", **changes: Any) -> Sealed:
        return hospital.instruction(content, number, kind, **changes)

    def other_plan(**privacy: Any) -> str:
        sections = plan.model_dump()
        sections["privacy"] |= privacy
        return FederationPlan.parse(sections).digest

    honest = ask(arrays)
    yield Attack("wider clip", ask(arrays, plan_digest=other_plan(clipping_norm=100.0)), "SMR-E401")
    yield Attack("no plan", ask(arrays, plan_digest="0" * 64), "SMR-E401")
    yield Attack("other key", ask(arrays, key=OTHER_KEY), "SMR-E113")
    yield Attack("no signature", Sealed(honest.header, honest.body, bytes(64)), "SMR-E113")
    yield Attack("other site", ask(arrays, site="b"), "SMR-E402")
    altered = {name: value + np.float32(1e-3) for name, value in arrays.items()}
    yield Attack("answered round", ask(altered, newest), "SMR-E403")
    yield Attack("earlier round", ask(arrays, newest - 1), "SMR-E404")
    yield Attack("round beyond", ask(arrays, plan.training.rounds + 1), "SMR-E416")
    swapped = Sealed(honest.header, encode_arrays(altered), honest.signature)
    yield Attack("altered arrays", swapped, "SMR-E113")
    resigned = seal(honest.header, encode_arrays(altered), coordinator)
    yield Attack("altered and signed", resigned, "SMR-E117")
    yield Attack("additional", ask({**arrays, "encoder.x": np.zeros(3, np.float32)}), "SMR-E405")
    missing = {name: value for name, value in arrays.items() if name != first}
    yield Attack("missing", ask(missing), "SMR-E405")
    yield Attack("nothing", ask({}), "SMR-E405")
    yield Attack("shape", ask({**arrays, first: arrays[first].reshape(-1, 1)}), "SMR-E405")
    yield Attack("nan", ask({**arrays, first: np.full_like(arrays[first], np.nan)}), "SMR-E405")
    yield Attack("not arrays", ask(b"raw"), "SMR-E115")
    yield Attack("lying arrays", ask((2**62).to_bytes(8, "little") + bytes(64)), "SMR-E115")
    deep = b"[" * 8_000
    yield Attack("deep arrays", ask(len(deep).to_bytes(8, "little") + deep), "SMR-E115")
    yield Attack("unannounced", ask(arrays, kind="evaluate"), "SMR-E370")
    yield from _acknowledgements(hospital, arrays, newest)
    yield from _headers(honest, coordinator)


def _acknowledgements(
    hospital: Hospital, arrays: dict[str, np.ndarray], newest: int
) -> Iterator[Attack]:
    claim = Received(
        run_id="run-1",
        round=newest,
        kind="train",
        site="a",
        reply_sha256="ab" * 32,
        accepted=True,
    )
    for name, key in (("never sent", hospital.coordinator), ("forged", OTHER_KEY)):
        said = countersign(claim, key).model_dump()
        message = hospital.instruction(arrays, newest + 1, acknowledged=said)
        yield Attack(f"acknowledged: {name}", message, "SMR-E366")


def _headers(honest: Sealed, key: Ed25519PrivateKey) -> Iterator[Attack]:
    """Headers that the coordinator itself signed, so that only their form is wrong."""
    fields = json.loads(honest.header)

    def text(**changes: Any) -> bytes:
        return json.dumps(fields | changes, sort_keys=True, separators=(",", ":")).encode()

    bombs = {
        "embeddings": text(kind="embeddings"),
        "surplus": text(return_tensors=["encoder.tokens"]),
        "deep": b"[" * 60_000,
        "deep field": b'{"run_id":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        "huge number": text(round=1).replace(b'"round":1', b'"round":1' + b"0" * 50_000),
        "float": text(round=1).replace(b'"round":1', b'"round":1e9'),
        "nan": text(round=float("nan")),
        "infinity": text(round=float("inf")),
        "repeated": honest.header[:-1] + b',"round":3}',
        "spaces": honest.header.replace(b",", b", "),
        "order": json.dumps(fields, separators=(",", ":"), sort_keys=False).encode() + b" ",
        "path": text(run_id="../../state"),
        "newline": text(run_id="run-1\n"),
        "empty": b"",
        "null": b"null",
        "not text": b"\xff\xfe" * 100,
        "surrogate": honest.header.replace(b'"site":"a"', b'"site":"\\ud800"'),
        "many": json.dumps({str(n): 0 for n in range(5000)}).encode(),
    }
    for name, header in bombs.items():
        yield Attack(f"header: {name}", seal(header, honest.body, key), "SMR-E116")


def streams(honest: Sealed) -> dict[str, list[bytes]]:
    """Streams of gRPC messages that are no sealed message in chunks."""

    def opening(size: int = 0, header: bytes = b"{}", signature: bytes = bytes(64)) -> bytes:
        part = Opening(header=header, signature=signature, body_bytes=size)
        return bytes(Chunk(opening=part).SerializeToString())

    def piece(size: int) -> bytes:
        return bytes(Chunk(body=bytes(size)).SerializeToString())

    size = len(honest.body)
    return {
        "nothing": [],
        "empty": [b""],
        "garbage": [b"\xff" * 1000],
        "body first": [piece(10)],
        "oversized": [opening(1 << 40), *[piece(CHUNK_BYTES)] * 4],
        "one too many": [opening(size), piece(size), piece(1)],
        "cut short": [opening(size, honest.header, honest.signature), piece(size - 1)],
        "two openings": [opening(size), opening(size)],
        "empty pieces": [opening(size), piece(0), piece(0)],
        "long header": [opening(0, bytes(70_000))],
        "short signature": [opening(0, b"{}", b"x")],
        "large message": [bytes(8 << 20)],
    }


def send_raw(socket: str, messages: list[bytes], method: str = HANDLE) -> grpc.RpcError:
    """Send bytes as they are, and give back the error."""
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{socket}", options=options) as channel:
        try:
            list(channel.stream_stream(method)(iter(messages), timeout=60))
        except grpc.RpcError as error:
            return error
    raise AssertionError("an answer to garbage")
