"""Processes are started, logged, restarted with back-off, given up, ended; none is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import SmrfedError
from shared_model.supervision.environment import flower_environment, forced_on
from shared_model.supervision.log_file import LogFile
from shared_model.supervision.process_spec import ProcessSpec, ProcessState
from shared_model.supervision.restart import SUPERNODE, RestartPolicy
from shared_model.supervision.state_file import read_states
from shared_model.supervision.supervisor import Supervisor

QUICK = RestartPolicy(first_s=0.1, factor=1.0, cap_s=0.1, steady_s=60, give_up_after=None)
SLEEP = "import time; time.sleep(600)"


def spec(
    folder: Path, name: str, program: str, restart: RestartPolicy = QUICK, **more: object
) -> ProcessSpec:
    line = (sys.executable, "-c", program)
    return ProcessSpec(
        name,
        line,
        folder / f"{name}.log",
        dict(os.environ),
        restart=restart,
        **more,  # type: ignore[arg-type]
    )


def gave_up(spec: ProcessSpec, state: ProcessState, tail: str) -> SmrfedError:
    return SmrfedError("SMR-E471", spec.name, remedy="-", found=f"{state.detail}; {tail}")


def until(condition: Callable[[], object], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Running:
    """A supervisor in a thread, and what it told."""

    def __init__(self, folder: Path, *specs: ProcessSpec) -> None:
        self.told: list[ProcessState] = []
        self.file = folder / "processes.json"
        self.supervisor = Supervisor(specs, self.file, gave_up, tell=self.told.append)
        self.thread = threading.Thread(target=self.supervisor.run)

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def state(self, name: str) -> ProcessState:
        return next(s for s in self.supervisor.states if s.name == name)

    def history(self, name: str) -> list[str]:
        return [s.state for s in self.told if s.name == name]


def test_a_process_that_dies_is_started_again_and_the_others_stay(tmp_path: Path) -> None:
    with Running(tmp_path, spec(tmp_path, "a", SLEEP), spec(tmp_path, "b", SLEEP)) as running:
        until(lambda: all(s.pid for s in running.supervisor.states))
        first, other = running.state("a").pid, running.state("b").pid
        assert first
        assert other
        os.kill(first, signal.SIGKILL)
        until(lambda: running.state("a").starts == 2)
        assert running.state("b").pid == other
        assert {s["name"]: s["state"] for s in read_states(running.file)}["b"] == "running"
        again = running.state("a").pid
        assert again
    assert not psutil.pid_exists(again)
    assert not psutil.pid_exists(other)
    assert running.history("a") == ["running", "restarting", "running", "stopped"]
    assert "signal 9" in next(s for s in running.told if s.state == "restarting").detail
    assert read_states(running.file)[0]["state"] == "stopped"


def test_they_end_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    order = tmp_path / "order"
    program = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        f"    open({str(order)!r}, 'a').write(NAME); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True); time.sleep(600)"
    )
    specs = [spec(tmp_path, n, program.replace("NAME", repr(n))) for n in "abc"]
    with Running(tmp_path, *specs):
        until(lambda: all((tmp_path / f"{n}.log").exists() for n in "abc"))
        until(lambda: all("up" in (tmp_path / f"{n}.log").read_text() for n in "abc"))
    assert order.read_text() == "cba"


def test_one_that_ends_for_good_ends_all_and_says_why(tmp_path: Path) -> None:
    hopeless = RestartPolicy(first_s=0.05, cap_s=0.1, give_up_after=3)
    bad = spec(tmp_path, "bad", "print('no such key'); raise SystemExit(7)", hopeless)
    supervisor = Supervisor([spec(tmp_path, "good", SLEEP), bad], tmp_path / "p.json", gave_up)
    with pytest.raises(SmrfedError, match="no such key") as raised:
        supervisor.run()
    assert "exit status 7, 3 times in a row" in str(raised.value)
    assert [s.state for s in supervisor.states] == ["stopped", "given up"]


def test_the_number_of_an_error_is_in_the_state(tmp_path: Path) -> None:
    program = "print('[SMR-E408] another agent'); print('  remedy: stop it'); raise SystemExit(1)"
    with Running(tmp_path, spec(tmp_path, "agent", program)) as running:
        until(lambda: "restarting" in running.history("agent"))
        told = [s.detail for s in running.told if s.state == "restarting"]
    assert told[0] == "exit status 1: SMR-E408 another agent; again in 0 s"


def test_what_an_earlier_start_wrote_explains_nothing(tmp_path: Path) -> None:
    (tmp_path / "agent.log").write_text("[SMR-E409] this site has not accepted such a plan\n")
    program = "raise SystemExit(3)"
    with Running(tmp_path, spec(tmp_path, "agent", program)) as running:
        until(lambda: "restarting" in running.history("agent"))
        told = [s.detail for s in running.told if s.state == "restarting"]
    assert told[0] == "exit status 3; again in 0 s"


def test_an_extra_that_ends_for_good_ends_nothing(tmp_path: Path) -> None:
    hopeless = RestartPolicy(first_s=0.05, cap_s=0.1, give_up_after=2)
    extra = spec(tmp_path, "extra", "raise SystemExit(1)", hopeless, essential=False)
    with Running(tmp_path, spec(tmp_path, "good", SLEEP), extra) as running:
        until(lambda: running.state("extra").state == "given up")
        assert running.state("good").state == "running"
        assert running.thread.is_alive()


def test_a_program_that_does_not_exist_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    absent = ProcessSpec(
        "absent", ("/no/such/program",), tmp_path / "absent.log", {},
        restart=RestartPolicy(first_s=0.05, give_up_after=1),
    )  # fmt: skip
    with pytest.raises(SmrfedError, match="cannot be started"):
        Supervisor([absent], tmp_path / "p.json", gave_up).run()


def test_the_next_process_starts_when_the_one_before_it_is_ready(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    first = spec(tmp_path, "first", SLEEP, ready=ready.exists)
    with Running(tmp_path, first, spec(tmp_path, "second", SLEEP)) as running:
        until(lambda: running.state("first").pid)
        time.sleep(0.6)
        assert running.state("second").state == "waiting"
        ready.touch()
        until(lambda: running.state("second").pid)


@pytest.mark.parametrize("killed_first", [False, True])
def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path: Path, killed_first: bool) -> None:
    """Also when the guardian was killed before: the supervisor starts another one."""
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_supervision import Supervisor, gave_up, spec, SLEEP
folder = Path({str(tmp_path)!r})
family = ("import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', "
          + repr(SLEEP) + "]); time.sleep(600)")
s = Supervisor([spec(folder, "family", family)], folder / "p.json", gave_up,
               tell=lambda state: print(s._guardian.pid, state.pid, flush=True))
s.run()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    guardian, family = map(int, parent.stdout.readline().split())
    until(lambda: psutil.Process(family).children())
    everybody = [family, *(p.pid for p in psutil.Process(family).children(recursive=True))]
    if killed_first:
        os.kill(guardian, signal.SIGKILL)
        until(lambda: any(p.pid not in (guardian, family) for p in children_of(parent.pid)))
    parent.kill()
    parent.wait()
    until(lambda: not any(map(alive, everybody)), 30)


def children_of(pid: int) -> Iterator[psutil.Process]:
    return (p for p in psutil.Process(pid).children() if p.status() != psutil.STATUS_ZOMBIE)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@given(st.floats(0.1, 100), st.floats(1, 4), st.floats(0.1, 1000), st.lists(st.integers(1, 10**6)))
def test_back_off_never_shrinks_and_never_passes_its_cap(
    first: float, factor: float, cap: float, failures: list[int]
) -> None:
    policy = RestartPolicy(first, factor, cap)
    delays = [policy.delay_s(n) for n in sorted(failures)]
    assert delays == sorted(delays)
    assert all(0 < delay <= cap for delay in delays)
    assert policy.delay_s(1) == min(first, cap)


def test_a_supernode_waits_long_enough_for_flower_and_is_never_given_up() -> None:
    # Back within three seconds: the message in its hands is lost until the deadline.
    assert SUPERNODE.delay_s(1) > 3.2
    # Refused for a minute after a crash: a restart within half a minute after that minute.
    starts = [sum(SUPERNODE.delay_s(n) for n in range(1, k + 1)) for k in range(1, 12)]
    assert any(60 < start <= 90 for start in starts)
    assert not SUPERNODE.hopeless(10**6)


def test_a_log_turns_over_and_keeps_its_newest_lines(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=1000, files=3)
    for number in range(350):
        log.write(b"line %04d\n" % number)
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["x.log", "x.log.1", "x.log.2"]
    assert all(f.stat().st_size <= 1000 for f in files)
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in files)
    newest = (tmp_path / "x.log.1").read_text() + (tmp_path / "x.log").read_text()
    lines = newest.split("\n")[:-1]
    assert lines == [f"line {n:04d}" for n in range(350 - len(lines), 350)]


def test_a_full_disk_costs_lines_and_not_the_process(tmp_path: Path) -> None:
    LogFile(tmp_path / "no" / "such" / "folder.log").write(b"lost")


def test_of_the_environment_nothing_of_flowers_survives(tmp_path: Path) -> None:
    given = {"FLWR_TELEMETRY_ENABLED": "1", "FLWR_X": "y", "PATH": "/bin", "no_proxy": "a.b"}
    made = flower_environment(tmp_path, given)
    assert made["FLWR_TELEMETRY_ENABLED"] == "0"
    assert "FLWR_X" not in made
    assert made["PATH"].split(os.pathsep)[-1] == "/bin"
    assert made["no_proxy"] == "a.b,127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("variable", "value", "refused"),
    [
        ("FLWR_TELEMETRY_ENABLED", "1", True),
        ("FLWR_TELEMETRY_ENABLED", "0", False),
        ("FLWR_DISABLE_UPDATE_CHECK", "0", True),
        ("FLWR_DISABLE_UPDATE_CHECK", "1", False),
        ("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "false", True),
        ("FLWR_INTERNAL_GRPC_FLEET_API", "1", True),
        ("UNRELATED", "1", False),
    ],
)
def test_what_must_stay_off_is_seen_when_it_is_forced_on(
    variable: str, value: str, refused: bool
) -> None:
    assert forced_on({variable: value}) == ((f"{variable}={value}",) if refused else ())


def test_a_state_file_of_a_dead_supervisor_says_nothing(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    file = tmp_path / "processes.json"
    file.write_text(json.dumps({"supervisor": ended.pid, "processes": [{"name": "a"}]}))
    assert read_states(file) == ()
    assert read_states(tmp_path / "absent") == ()
