"""The result of a toy run to which nothing happened: what all others must equal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RoundDriver
from server.rounds.settings import DriverSettings
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, encode_arrays
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal
from simulations.deployed.stand_in import toy_update
from simulations.deployed.supervised import INITIAL
from simulations.federation.in_process import InProcessTransport


def undisturbed_sha256(
    plan: FederationPlan, folder: Path, left_out: Mapping[str, Collection[int]] | None = None
) -> str:
    """Digest of the final parameters; ``left_out``: site -> rounds in which it did not count."""
    keys = {site.name: Ed25519PrivateKey.generate() for site in plan.federation.sites}
    out = left_out or {}
    handlers = {name: _answers(name, key, out.get(name, ())) for name, key in keys.items()}
    folder.mkdir(parents=True, exist_ok=True)
    run = RunDirectory.create(folder / "undisturbed", plan, INITIAL, "undisturbed")
    driver = RoundDriver(
        plan,
        run,
        InProcessTransport(handlers),
        Ed25519PrivateKey.generate(),
        {name: key.public_key() for name, key in keys.items()},
        settings=DriverSettings.in_process(),
    )
    return driver.run().sha256


def _answers(
    name: str, key: Ed25519PrivateKey, left_out: Collection[int]
) -> Callable[[Sealed], Sealed]:
    def answer(instruction: Sealed) -> Sealed:
        header = decode_header(RoundInstruction, instruction)
        training = header.kind == "train"
        if training and header.round in left_out:
            raise SmrfedError("SMR-E410", "left out", expected="", found="", remedy="none")
        body = encode_arrays(toy_update(name, instruction.body) if training else {})
        reply = RoundReply(
            **header.model_dump(exclude={"body_sha256", "acknowledged"}),
            body_sha256=body_digest(body),
            instruction_sha256=instruction.digest.hex(),
            metrics={},
        )
        return seal(reply.canonical_json, body, key)

    return answer
