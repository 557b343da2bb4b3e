"""What the coordinator says it received of this hospital, signed, kept beside the receipts."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.egress.receipts import Receipts, altered, cannot_write
from shared_model.chain.lines import ChainedLines, Link
from shared_model.errors import SmrfedError
from shared_model.protocol.acknowledgement import Acknowledgement


class Acknowledged(Link):
    """An acknowledgement at its place in the chain."""

    acknowledgement: Acknowledgement


class Acknowledgements:
    """Append-only, hash-chained JSON lines: one per reply that the coordinator signed for.

    Args:
        path: the file.
        coordinator: the key that must have signed.
        receipts: what this hospital released; nothing else can have been received from it.
    """

    def __init__(self, path: Path, coordinator: Ed25519PublicKey, receipts: Receipts) -> None:
        self._path = path
        self._coordinator = coordinator
        self._receipts = receipts
        self._lines = ChainedLines(path, Acknowledged, lambda found: altered(path, found))

    def record(
        self, said: Acknowledgement, site: str, signer: Ed25519PublicKey | None = None
    ) -> None:
        """Verify and keep an acknowledgement; one that is known already is not written again.

        ``signer``: who must have signed, where that is the coordinator's next key.

        Raises SMR-E366 when the coordinator did not sign it, when it is another site's, or when it
        names a reply that no receipt of this hospital released: somebody then answers with this
        hospital's key, or its state folder was exchanged. SMR-E326, SMR-E327: the record itself.
        """
        said.verify(self._coordinator if signer is None else signer)
        if any(line.acknowledgement == said for line in self._lines.naming(said.reply_sha256)):
            return
        released = {
            (d.run_id, d.round, d.kind)
            for d in (receipt.decision for receipt in self._receipts.of_reply(said.reply_sha256))
            if d.released
        }
        if said.site != site or (said.run_id, said.round, said.kind) not in released:
            raise SmrfedError(
                "SMR-E366",
                "the coordinator acknowledges a reply that this site never released",
                expected="a reply with a receipt here",
                found=f"{said.site}, round {said.round} ({said.kind}) of run {said.run_id}, "
                f"reply {said.reply_sha256[:16]}",
                remedy="find out who else holds this site's key, or whether the state folder was "
                "exchanged; compare the records with smrfed-site receipts reconcile",
            )
        try:
            self._lines.append({"acknowledgement": said.model_dump(mode="json")})
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def read(self) -> tuple[Acknowledged, ...]:
        """All lines, verified; raises SMR-E326 where the chain is broken."""
        return self._lines.read()
