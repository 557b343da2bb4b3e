"""A site's part of the secure aggregation: what it keeps between questions, and what it answers.

::

    masks/RUN/0000001/secret               32 bytes of OS entropy behind all keys of the block
    masks/RUN/0000001/shares               body of the ``shares`` question that was answered
    masks/RUN/0000001/order-0000003.json   for which sites the vector of round 3 was masked

Everything is written through to the disk before the answer that rests on it, so that a restarted
agent gives the same bytes. The rule that a question is answered once and for ever is that of
:mod:`client.agent.replies`. A block's folder goes when the next block begins, with the last answer
of the block, when the run is finalised, and, where it never is, as
:mod:`client.agent.mask_leftovers` says; on flash memory that is no proof of erasure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.agent.durable import sync_folder, write_durably
from client.agent.mask_leftovers import remove_quiet_runs, remove_run
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Integers, decode_integers, encode_arrays
from shared_model.protocol.messages import RoundInstruction
from shared_model.secure_aggregation.layout import Layout
from shared_model.secure_aggregation.messages import (
    MaskingOrder,
    UnmaskOrder,
    UnmaskQuestion,
    decode_advertisements,
    encode_shares,
)
from shared_model.secure_aggregation.plan_block import is_signing_key, plan_block
from shared_model.secure_aggregation.site import SiteSession
from shared_model.secure_aggregation.site_keys import SiteKeys

_SECRET_BYTES = 32

#: Arrays of a reply.
IntegerArrays = Mapping[str, Integers]


class MaskedRounds:
    """The exchanges of one site under one accepted plan; computes, keeps, and never sends.

    Args:
        folder: this object's own, owner-only.
        key: the site's signing key; raises SMR-E456 when the plan names another one for the site.
    """

    def __init__(
        self, folder: Path, plan: FederationPlan, site: str, key: Ed25519PrivateKey
    ) -> None:
        if not is_signing_key(plan, site, key.public_key()):
            raise SmrfedError(
                "SMR-E456",
                f"plan {plan.name!r} names another signing key for {site!r}",
                expected=plan.site(site).signing_key,
                found=key.public_key().public_bytes_raw().hex(),
                remedy="the other hospitals would refuse this site's masks: the coordinator must "
                "draft a new plan with this site's present key, which every site accepts",
            )
        self._folder, self._plan, self._site, self._key = folder, plan, site, key
        self._session: tuple[tuple[str, int], SiteSession] | None = None

    def answer(self, header: RoundInstruction, body: bytes) -> IntegerArrays:
        """Arrays of the reply to ``keys``, ``shares`` or ``unmask``, as the header asks."""
        if header.kind == "keys":
            return self.keys(header.run_id, header.round, body)
        if header.unmasking is None:
            return self.shares(header.run_id, header.round, body)
        return self.unmask(header.run_id, header.round, header.unmasking, body)

    def keys(self, run_id: str, first_round: int, body: bytes) -> IntegerArrays:
        """Answer to ``keys``: the public keys of the block that begins with this round."""
        if body != encode_arrays({}):
            raise out_of_place("a question for keys with a body", "none", f"{len(body)} bytes")
        block = plan_block(self._plan, run_id, first_round)
        self.forget(run_id, before=first_round)
        path = self._block(run_id, first_round) / "secret"
        if not path.exists():
            write_durably(path, os.urandom(_SECRET_BYTES))
        keys = SiteKeys(block, self._site, self._secret(run_id, first_round))
        return decode_integers(keys.advertisement().encode())

    def shares(self, run_id: str, first_round: int, body: bytes) -> IntegerArrays:
        """Answer to ``shares``, once the body is on disk; raises what :class:`SiteSession` does."""
        session = self._opened(run_id, first_round, body)
        answer = decode_integers(encode_shares(session.encrypted_shares()))
        write_durably(self._block(run_id, first_round) / "shares", body)
        self._session = (run_id, first_round), session
        return answer

    def take_order(self, run_id: str, round_number: int, order: MaskingOrder) -> None:
        """Keep an order that this site may follow, before it trains; raises SMR-E455, SMR-E134."""
        self._find(run_id, order).require_order(round_number, order)
        write_durably(self._order(run_id, order, round_number), order.model_dump_json().encode())

    def mask(
        self,
        run_id: str,
        round_number: int,
        order: MaskingOrder,
        arrays: Mapping[str, npt.NDArray[np.int64]],
    ) -> IntegerArrays:
        """Answer to ``train``: the integers by name as one masked vector, with its confirmation."""
        vector = Layout({name: value.shape for name, value in arrays.items()}).flatten(arrays)
        signature = self._find(run_id, order).mask(vector, round_number, order, self._key)
        return {"masked": vector, "confirmation": np.frombuffer(signature, np.uint8)}

    def unmask(
        self, run_id: str, round_number: int, order: UnmaskOrder, body: bytes
    ) -> IntegerArrays:
        """Answer to ``unmask``.

        Raises SMR-E458 when this site masked no vector in this round, SMR-E135 and SMR-E136 when it
        does not help to open this sum.
        """
        session = self._find(run_id, order)
        path = self._order(run_id, order, round_number)
        try:
            masked = MaskingOrder.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise SmrfedError(
                "SMR-E458",
                f"this site masked no vector in round {round_number} of run {run_id}",
                expected=path,
                found=f"{type(error).__name__}",
                remedy="nothing left; the coordinator may ask only sites whose vectors it has, so "
                "ask its people why it asked",
            ) from None
        question = UnmaskQuestion.decode(body, order, self._site)
        answer = session.unmask(round_number, masked, order, question)
        return decode_integers(answer.encode())

    def end_round(self, header: RoundInstruction) -> None:
        """Forget a block once this site has answered the last ``unmask`` of it."""
        if header.unmasking is None:
            return
        first = header.unmasking.first_round
        block = plan_block(self._plan, header.run_id, first)
        if block.index(header.round) == block.rounds - 1:
            self.forget(header.run_id, before=first + 1)

    def forget(self, run_id: str, before: int | None = None) -> None:
        """Remove the secrets of a run's blocks that begin before a round; none: of all."""
        run = self._folder / run_id
        for folder in run.glob("[0-9]*"):
            if before is None or int(folder.name) < before:
                (folder / "secret").unlink(missing_ok=True)
                shutil.rmtree(folder)
                sync_folder(run)
        if self._session is not None and self._session[0][0] == run_id:
            self._session = None
        if before is None and run.is_dir():
            remove_run(run)

    def _find(self, run_id: str, order: MaskingOrder) -> SiteSession:
        place = run_id, order.first_round
        if self._session is None or self._session[0] != place:
            path = self._block(*place) / "shares"
            if not path.exists():
                raise _no_keys(*place)
            self._session = place, self._opened(*place, path.read_bytes())
        return self._session[1]

    def _opened(self, run_id: str, first_round: int, body: bytes) -> SiteSession:
        secret = self._secret(run_id, first_round)
        block = plan_block(self._plan, run_id, first_round)
        return SiteSession.open(block, self._site, secret, decode_advertisements(body, block))

    def _secret(self, run_id: str, first_round: int) -> bytes:
        path = self._block(run_id, first_round) / "secret"
        secret = path.read_bytes() if path.exists() else b""
        if len(secret) != _SECRET_BYTES:
            raise _no_keys(run_id, first_round)
        return secret

    def _block(self, run_id: str, first_round: int) -> Path:
        return self._folder / run_id / f"{first_round:07d}"

    def _order(self, run_id: str, order: MaskingOrder, round_number: int) -> Path:
        return self._block(run_id, order.first_round) / f"order-{round_number:07d}.json"


def out_of_place(what: str, expected: object, found: object) -> SmrfedError:
    """SMR-E457: the accepted plan has no such exchange."""
    return SmrfedError(
        "SMR-E457",
        f"the accepted plan does not provide for {what}",
        expected=expected,
        found=found,
        remedy="nothing left this site; check that coordinator and site run the same smrfed "
        "version and the same plan; if they do, ask the coordinator's people",
    )


def summed_only(
    plan: FederationPlan, folder: Path, site: str, key: Ed25519PrivateKey
) -> MaskedRounds | None:
    """The exchanges where the plan has a secure sum, none elsewhere; quiet runs' secrets go."""
    remove_quiet_runs(folder)
    return MaskedRounds(folder, plan, site, key) if plan.privacy.summed else None


def _no_keys(run_id: str, first_round: int) -> SmrfedError:
    return SmrfedError(
        "SMR-E455",
        f"this site has no keys of the block of round {first_round} of run {run_id}",
        expected="a block whose keys and shares this site answered, and that is not over",
        found="none: it did not answer then, the block is over, or its state folder is another one",
        remedy="nothing needs to be done: the coordinator begins a new block of rounds; do not "
        "restore an older state folder",
    )
