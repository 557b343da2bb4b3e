"""What ``smrfed-coordinator up`` runs, and what it refuses to start."""

from __future__ import annotations

import contextlib
import datetime
import ssl
import urllib.error
import urllib.request
from collections.abc import Collection, Sequence
from pathlib import Path

from server.config import CoordinatorFolder
from server.enrolment.authority import renew_if_due
from server.supervisor.commands import SuperLinkFiles, superexec_command, superlink_command
from shared_model.errors import SmrfedError
from shared_model.supervision import safety
from shared_model.supervision.child import Child
from shared_model.supervision.environment import command, flower_environment
from shared_model.supervision.listening import outside_loopback
from shared_model.supervision.process_spec import ProcessSpec, ProcessState, ending
from shared_model.supervision.restart import RestartPolicy
from shared_model.supervision.secret_file import ensure_secret

SUPERLINK = "superlink"
#: Commands of other parts of the coordinator, started where they exist; the run needs none of them.
OPTIONAL = ("enrolment-service", "watch", "dashboard", "metrics")
# Never for good: a full disk may last for days, and then a run needs its watchdog.
_LATER = RestartPolicy(first_s=5.0, cap_s=300.0, give_up_after=None)


def superlink_files(home: CoordinatorFolder) -> SuperLinkFiles:
    """What the SuperLink of this folder reads and writes."""
    return SuperLinkFiles(
        home.authority,
        home.certificate,
        home.certificate_key,
        home.superlink_database,
        home.superexec_secret,
    )


def coordinator_specs(
    home: CoordinatorFolder, existing: Collection[str], without: Collection[str] = ()
) -> tuple[ProcessSpec, ...]:
    """The coordinator's processes, in the order of their start; they end in the reverse order.

    ``existing``: the commands that ``smrfed-coordinator`` has; ``without``: those switched off.
    """
    port = home.config.superlink_port
    health = f"https://127.0.0.1:{port}/health"
    files = superlink_files(home)
    flower = flower_environment(home.flower_home)
    own = {**flower_environment(home.flower_home), "SMRFED_HOME": str(home.path)}
    specs = [
        ProcessSpec(
            SUPERLINK,
            superlink_command(files, port),
            home.logs / "superlink.log",
            flower,
            ready=lambda: _answers(health, files.authority, 2.0),
            answers=lambda: _answers(health, files.authority, 10.0),
        ),
        ProcessSpec(
            "superexec", superexec_command(files, port), home.logs / "superexec.log", flower
        ),
    ]
    for name in OPTIONAL:
        if name in existing and name not in without:
            line = (command("smrfed-coordinator"), name, "--home", str(home.path))
            log = home.logs / f"{name}.log"
            specs.append(ProcessSpec(name, line, log, own, restart=_LATER, essential=False))
    return tuple(specs)


def check_coordinator(home: CoordinatorFolder, now: datetime.datetime) -> None:
    """Refuse an unsafe start, with the reason: SMR-E542 to SMR-E547."""
    config = home.config
    safety.refuse("SMR-E546", safety.unsafe_environment())
    _refuse_plain_http(config.public_address)
    ensure_secret(home.superexec_secret)
    for key in private_files(home):
        safety.refuse("SMR-E543", safety.unsafe_private_file(key))
    safety.refuse("SMR-E544", safety.unsafe_secret(home.superexec_secret))
    safety.refuse("SMR-E545", safety.unsafe_clock(now, newest=_newest(home)))
    safety.refuse(
        "SMR-E545",
        safety.unsafe_certificate(home.certificate, home.authority, config.public_host, now),
    )
    # SQLite makes its files with the umask; everything of Flower's lies in a private folder.
    for folder in (home.superlink_database.parent, home.flower_home, home.logs):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def renew_certificate(home: CoordinatorFolder) -> None:
    """Reissue a server certificate that is over or nearly so, where the authority's key is here.

    A coordinator that was switched off for months would otherwise refuse to start.
    """
    if home.authority_key.exists() and home.certificate.exists():
        with contextlib.suppress(SmrfedError):  # the checks that follow say what is wrong
            renew_if_due(home)


def private_files(home: CoordinatorFolder) -> tuple[Path, ...]:
    """Keys and secrets of the coordinator that are there; the first three always must be."""
    needed = (home.certificate_key, home.signing_key, home.superexec_secret)
    # The authority's key may be kept elsewhere, offline.
    return (*needed, *(p for p in (home.authority_key, home.registry) if p.exists()))


def only_loopback(children: Sequence[Child]) -> None:
    """End everything when a process listens where other machines reach it: SMR-E542."""
    found = outside_loopback({child.pid for child in children})
    if found:
        raise SmrfedError(
            "SMR-E542",
            "a process of the coordinator listens on an address that other machines can reach",
            expected="127.0.0.1 or ::1: Flower's Control API has no authentication",
            found=", ".join(f"{host}:{port}" for host, port in sorted(found)),
            remedy="everything was stopped; let only the reverse proxy of deploy/nginx listen "
            "outside",
        )


class Looking:
    """What ``up`` looks at beside its processes' lives: where they listen, and their certificate.

    Called with the running children, as a :class:`Supervisor` does.
    """

    def __init__(self, home: CoordinatorFolder) -> None:
        self._home = home
        self._read: tuple[int, bytes] | None = None

    def __call__(self, children: Sequence[Child]) -> None:
        """Raises SMR-E542; ends a SuperLink that still has a certificate that was reissued.

        It reads its certificate at its start only, and is started again by the supervisor; a run
        survives that.
        """
        only_loopback(children)
        superlink = next((child for child in children if child.name == SUPERLINK), None)
        if superlink is None:
            return
        try:
            content = self._home.certificate.read_bytes()
        except OSError:
            return
        if self._read is None or self._read[0] != superlink.pid:
            self._read = superlink.pid, content
        elif self._read[1] != content:
            superlink.terminate()


def gave_up(spec: ProcessSpec, state: ProcessState, tail: str) -> SmrfedError:
    """The error when a process has ended for good: SMR-E547."""
    return SmrfedError(
        "SMR-E547",
        f"the process {spec.name!r} has ended for good: {state.detail}",
        expected="a process that stays",
        found=f"{ending(state.exit_status)}; the end of its log:\n{tail}",
        remedy=f"settle what the log says ({spec.log}), then start smrfed-coordinator up again",
    )


def _refuse_plain_http(address: str) -> None:
    if address.rpartition(":")[2] == "80":
        raise SmrfedError(
            "SMR-E542",
            "not started: the public address is one of plain HTTP",
            found=address,
            expected="a port on which the reverse proxy speaks TLS, usually 443",
            remedy="set public_address in coordinator.toml",
        )


def _newest(home: CoordinatorFolder) -> datetime.datetime | None:
    """The newest time at which a run was written to; a clock behind it was set back."""
    times = [path.stat().st_mtime for path in home.runs.glob("*/events.jsonl")]
    return datetime.datetime.fromtimestamp(max(times), datetime.UTC) if times else None


def _answers(url: str, authority: Path, timeout_s: float) -> bool:
    try:
        trust = ssl.create_default_context(cafile=str(authority))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        with opener.open(url, timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def state_file(home: CoordinatorFolder) -> Path:
    """Where ``up`` writes the states of its processes."""
    return home.logs / "processes.json"
