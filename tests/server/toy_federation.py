"""A federation without torch: sites that pull a few arrays towards their own target, and sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from server.checkpoints.run_directory import RunDirectory
from server.rounds.transport import Failure
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal

SHAPES = {"head.bias": (3,), "head.weight": (3, 7), "graph.weight": (5, 4, 2)}
Answer = Sealed | Failure | None
# What happens to a site's answer on its way: (site, instruction, honest reply) -> what arrives.
Fault = Callable[["ToySite", Sealed, Sealed], Answer]


def key_of(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"\0"))


COORDINATOR_KEY = key_of("coordinator")


def make_plan(*sites: str, **sections: dict[str, object]) -> FederationPlan:
    federation = {
        "sites": [{"name": n, "declared_patients": 10 + 7 * i} for i, n in enumerate(sites)],
        "weighting": "declared_patients",
        "round_deadline_s": 60.0,
    }
    data: dict[str, object] = {
        "name": "toy",
        "privacy": {"mode": "none"},
        "training": {"rounds": 4, **sections.pop("training", {})},
        "federation": {**federation, **sections.pop("federation", {})},
        **sections,
    }
    return FederationPlan.parse(data)


def initial_arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    return {n: generator.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}


def make_run(path: Path, plan: FederationPlan) -> RunDirectory:
    return RunDirectory.create(path, plan, initial_arrays(), "toy-run")


def site_keys(plan: FederationPlan) -> dict[str, Ed25519PublicKey]:
    return {name: key_of(name).public_key() for name in plan.weights}


def read(message: Sealed) -> RoundInstruction:
    return decode_header(RoundInstruction, message)


class ToySite:
    """Answers each instruction once; asked again it gives the same bytes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = key_of(name)
        self.trained: list[int] = []
        self.finalised: list[bytes] = []
        self._answers: dict[bytes, Sealed] = {}

    def knows(self, message: Sealed) -> bool:
        return message.digest in self._answers

    def handle(self, message: Sealed) -> Sealed:
        if not self.knows(message):
            message.verify(COORDINATOR_KEY.public_key(), "coordinator")
            instruction = read(message)
            if instruction.kind == "train":
                self.trained.append(instruction.round)
                arrays = self.pushed_back(decode_arrays(message.body), instruction.round)
            else:
                self.finalised.append(message.body)
                arrays = {}
            self._answers[message.digest] = self.sign(message, arrays)
        return self._answers[message.digest]

    def pushed_back(self, body: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
        """The update; where a common control variate came along, it pushes the other way."""
        # Names of parameters hold no slash; what comes along with them does.
        theta = {name: value for name, value in body.items() if "/" not in name}
        arrays = self.update(theta, number)
        for name in SHAPES:
            control = body.get(f"control-variate/{name}")
            if control is not None:
                arrays[name] = (arrays[name] - 0.1 * control).astype(np.float32)
        return arrays

    def update(self, theta: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
        generator = np.random.default_rng([number, *self.name.encode()])
        return {
            name: (0.3 * (generator.normal(size=value.shape) - value)).astype(np.float32)
            for name, value in sorted(theta.items())
        }

    def sign(
        self, message: Sealed, arrays: Mapping[str, np.ndarray] | bytes, **changes: object
    ) -> Sealed:
        instruction = read(message)
        body = arrays if isinstance(arrays, bytes) else encode_arrays(arrays)
        fields: dict[str, object] = {
            "run_id": instruction.run_id,
            "round": instruction.round,
            "kind": instruction.kind,
            "site": self.name,
            "plan_digest": instruction.plan_digest,
            "body_sha256": body_digest(body),
            "instruction_sha256": message.digest.hex(),
            **changes,
        }
        return seal(RoundReply.model_validate(fields).canonical_json, body, self.key)


class ToyTransport:
    """In-process; a site works when it is polled. ``faults`` spoil replies, by site name."""

    def __init__(self, *names: str, faults: Mapping[str, Fault] | None = None) -> None:
        self.sites = {name: ToySite(name) for name in names}
        self.faults = dict(faults or {})
        self.pushed: list[tuple[str, Sealed]] = []
        self._waiting: dict[str, tuple[ToySite, Sealed]] = {}

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        handle = f"{site}/{len(self.pushed)}"
        self.pushed.append((site, message))
        self._waiting[handle] = (self.sites[site], message)
        return handle

    def poll(self, handle: str) -> Answer:
        site, message = self._waiting[handle]
        reply = site.handle(message)
        fault = self.faults.get(site.name)
        if fault is None:
            return reply
        return fault(site, message, reply)
