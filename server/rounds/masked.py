"""Rounds of modes ``distributed`` and ``central``: masks agreed, vectors added, one sum opened.

Keys and shares of a block (:mod:`server.rounds.masked_setup`), then in every round ``train`` and
``unmask``: each exchange is asked once, within one deadline. Whose vectors are in the sum is on the
disk, with the masked sum, before anybody is asked to open it, so that a killed coordinator asks
about the same sites again. A round that cannot be opened is **void**: nothing was decrypted, the
parameters stay, and the next round follows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from server.aggregation.summed import SummedUpdate, noised_total
from server.checkpoints.mask_files import MaskFiles, OpenedFile, damaged
from server.checkpoints.run_directory import KEPT_ROUNDS, RunDirectory
from server.checkpoints.state import RunState
from server.enrolment.members import Members
from server.rounds.asking import Asking, MaskTerms
from server.rounds.checks import check_metrics
from server.rounds.history import Exchanges, Later
from server.rounds.masked_setup import MaskSetup
from server.rounds.quorum import Quorum
from server.rounds.records import RoundRecord, SiteOutcome
from server.rounds.settings import DriverSettings
from shared_model.adaptation.wire import Carried
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import WordStream
from shared_model.privacy.summed_noise import section_of
from shared_model.protocol.arrays import decode_arrays
from shared_model.protocol.messages import RoundReply
from shared_model.secure_aggregation.coordinator import RoundSum
from shared_model.secure_aggregation.layout import Layout
from shared_model.secure_aggregation.plan_block import is_signing_key

_log = logging.getLogger(__name__)

#: What makes a round void; nothing was opened then.
_VOID = ("SMR-E137", "SMR-E138", "SMR-E139")


class MaskedRounds:
    """The rounds of one run with a secure sum.

    Args:
        random: words for the coordinator's noise in mode ``central``; none: the operating
            system's. For tests.
    """

    def __init__(
        self,
        run_dir: RunDirectory,
        asking: Asking,
        members: Members,
        settings: DriverSettings,
        random: WordStream | None = None,
    ) -> None:
        self._plan: FederationPlan = run_dir.plan
        self._asking, self._members, self._settings = asking, members, settings
        self._random = random
        self._files = MaskFiles(run_dir.path, run_dir.run_id)
        self._setup = MaskSetup(self._plan, run_dir.run_id, self._files, asking, members)
        self._void_in_a_row = 0

    def round(
        self,
        state: RunState,
        history: Exchanges,
        carried: Carried | None,
    ) -> tuple[RoundRecord, SummedUpdate | None]:
        """The round after a state: its record, and the update, or none when the round is void.

        ``history``: all exchanges so far. Raises SMR-E564 (a damaged file) and SMR-E534.
        """
        number, theta = state.round + 1, decode_arrays(state.body)
        layout = Layout({name: value.shape for name, value in theta.items()})
        opened = self._files.opened(number)
        if opened is None:
            attempt = _Attempt(number)
            try:
                opened = self._open(state, attempt, history, carried, layout.numbers)
            except SmrfedError as error:
                if error.code not in _VOID:
                    raise
                record = attempt.void(f"{error.code} {error.what} (found: {error.found})")
                self._asking.notify("round_void", number, "train", reason=record.void)
                return record, None
        file, total = opened
        update = SummedUpdate(self._plan, layout.restore(total), file.survivors, theta, noised=True)
        return file.record.model_copy(update={"weight": update.weight}), update

    def saved(self, number: int) -> None:
        """The checkpoint of a round is on disk."""
        self._files.prune(number, KEPT_ROUNDS)

    def after(self, record: RoundRecord, sleep: Callable[[float], None]) -> None:
        """Wait after a void round; raises SMR-E562 when too many of them came in a row."""
        if record.void is None:
            self._void_in_a_row = 0
            return
        self._void_in_a_row += 1
        if self._void_in_a_row >= self._settings.void_rounds:
            raise SmrfedError(
                "SMR-E562",
                f"{self._void_in_a_row} rounds in a row were void, the last one round "
                f"{record.round}",
                expected=f"a sum of at least {section_of(self._plan).min_survivors} hospitals",
                found=record.void,
                remedy="settle with the hospitals why they do not answer, then resume: nothing "
                "was opened, all rounds are saved; a plan with a lower min_survivors needs more "
                "noise from each and is a new plan",
            )
        sleep(self._settings.attempt_pause_s)

    def _open(
        self,
        state: RunState,
        attempt: _Attempt,
        history: Exchanges,
        carried: Carried | None,
        numbers: int,
    ) -> tuple[OpenedFile, npt.NDArray[np.int64]]:
        """From the set-up to the noised sum on disk; errors of :data:`_VOID`: a void round."""
        number, previous = attempt.number, state.history[-1] if state.history else None
        setup = self._setup.block_of(number, history, previous, attempt.around.append)
        members = self._members.sites
        order = self._files.order(number)
        maskers = (
            tuple(sorted(set(setup.sharers) & set(members))) if order is None else order.maskers
        )
        attempt.leave_out({s for s in members if s not in maskers})
        sums = RoundSum(setup, number, maskers, numbers)
        if order is None:
            self._files.save_order(number, sums.order)
        known = self._files.collected(number)
        if known is None:
            self._train(state.body, sums, attempt, history, carried)
            assert attempt.trained is not None
            self._files.save_collected(number, attempt.trained, sums.collected())
        else:
            attempt.trained = known[0]
            try:
                sums.resume(known[1])
            except (ValueError, KeyError) as error:
                raise damaged(self._files.folder, error) from None
        self._unmask(sums, attempt, history)
        total = sums.open()
        if sums.wrong_shares:
            attempt.name_liars(sums.wrong_shares)
            for site in sums.wrong_shares:
                self._asking.notify("site_set_aside", number, "unmask", site, _LIED)
        noised_total(self._plan, total, self._random)
        file = OpenedFile(record=attempt.record(), survivors=sums.survivors)
        self._files.save_opened(number, file, total)
        return file, total

    def _train(
        self,
        body: bytes,
        sums: RoundSum,
        attempt: _Attempt,
        history: Exchanges,
        carried: Carried | None,
    ) -> None:
        number, quorum = attempt.number, Quorum.of(self._plan)

        def accept(header: RoundReply, content: bytes) -> dict[str, float]:
            self._members.require(header.site)
            metrics = check_metrics(header, self._plan.privacy.mode)
            sums.add(header.site, content)
            return metrics

        sites = tuple(site for site in self._members.sites if site in sums.order.maskers)
        known = Later(history, tuple(attempt.around))
        terms = MaskTerms(quorum, order=sums.order)
        attempt.trained = self._asking.ask(
            "train", number, body, sites, known, accept, carried, terms
        )
        survivors = sums.close().survivors
        if not quorum.met(survivors):
            raise SmrfedError(
                "SMR-E137",
                f"round {number} is void: the sites that sent their vectors are too few",
                expected=str(quorum),
                found=f"{len(survivors)} with {quorum.patients_of(survivors)} declared patients",
                remedy="nothing was opened, the parameters stay, the next round follows",
            )

    def _unmask(self, sums: RoundSum, attempt: _Attempt, history: Exchanges) -> None:
        order, number = sums.close(), attempt.number

        def accept(header: RoundReply, content: bytes) -> dict[str, float]:
            self._members.require(header.site)
            metrics = check_metrics(header, self._plan.privacy.mode)
            sums.add_answer(header.site, content)
            return metrics

        assert attempt.trained is not None
        sites = tuple(site for site in self._members.sites if site in order.survivors)
        terms = MaskTerms(
            Quorum(section_of(self._plan).threshold),
            # So many answers open the sum; more only tell who lies.
            grace_s=self._settings.returning_grace_s,
            order=order,
            bodies={site: sums.question(site).encode() for site in sites},
        )
        known = Later(history, (*attempt.around, attempt.trained))
        record = self._asking.ask("unmask", number, b"", sites, known, accept, terms=terms)
        attempt.around.append(record)


_LIED = "SMR-E139 its shares fit none of the published keys"


class _Attempt:
    """What is known of a round under way, so that a void one is recorded as well."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.around: list[RoundRecord] = []
        self.trained: RoundRecord | None = None
        self._left_out: dict[str, SiteOutcome] = {}
        self._began = datetime.now(UTC)

    def leave_out(self, sites: set[str]) -> None:
        """Sites without keys in this block: why, as it was when they were asked."""
        for site in sites:
            outcome = next((r.sites[site] for r in reversed(self.around) if site in r.sites), None)
            code = None if outcome is None or outcome.accepted else outcome.code
            why = "" if outcome is None or outcome.reason is None else f": {outcome.reason}"
            self._left_out[site] = SiteOutcome(
                accepted=False,
                pushes=0,
                code=code or "SMR-E565",
                reason=f"no keys for this block of rounds{why}"[:500],
            )

    def name_liars(self, sites: tuple[str, ...]) -> None:
        """Note whose shares were wrong."""
        for at, record in enumerate(self.around):
            if record.kind == "unmask":
                lied = {"accepted": False, "code": _LIED[:8], "reason": _LIED[9:]}
                outcomes = {
                    name: one.model_copy(update=lied) if name in sites else one
                    for name, one in record.sites.items()
                }
                self.around[at] = record.model_copy(update={"sites": outcomes})

    def record(self) -> RoundRecord:
        """The round as far as it came."""
        trained = self.trained or self._not_asked()
        sites = {**self._left_out, **trained.sites}
        return trained.model_copy(update={"sites": sites, "around": tuple(self.around)})

    def void(self, reason: str) -> RoundRecord:
        """The same of a round of which nothing was opened."""
        return self.record().model_copy(update={"void": reason[:1000]})

    def _not_asked(self) -> RoundRecord:
        return RoundRecord(
            round=self.number,
            kind="train",
            sites={},
            attempts=1,
            weight=0,
            started_at=self._began.isoformat(timespec="seconds"),
            seconds=math.fsum(record.seconds for record in self.around),
        )


def require_plan_keys(plan: FederationPlan, keys: dict[str, Ed25519PublicKey]) -> None:
    """Raise SMR-E563 when a hospital is registered with another key than the plan's."""
    others = [name for name, key in keys.items() if not is_signing_key(plan, name, key)]
    if others:
        raise SmrfedError(
            "SMR-E563",
            "hospitals are registered with other signing keys than the plan names",
            expected="the keys of the plan's [[federation.sites]]",
            found=", ".join(sorted(others)),
            remedy="masks are certified with the keys that all hospitals accepted with the plan: "
            "after a rotation draft a new plan (plan new), which every hospital accepts anew",
        )
