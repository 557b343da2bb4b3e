"""A coordinator and hospitals as people run them: their own commands and folders, nothing else."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from nginx_front import NginxFront
from real_sites import write_archive

from simulations.deployed.environment import command, offline_environment
from simulations.deployed.pki import ServerCertificate
from simulations.deployed.processes import free_ports

PATIENCE_S = 900.0


class FirstDay:
    """Everything of one federation below ``folder``; :meth:`close` ends what is left of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "coordinator"
        self.outputs: dict[str, str] = {}
        self._environment = offline_environment(folder / "flower")
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def say(
        self, program: str, *arguments: object, cwd: Path | None = None, fails: str = ""
    ) -> str:
        """Run a command as its user would; its output. ``fails``: the number it must end with."""
        done = subprocess.run(
            [command(program), *map(str, arguments)],
            cwd=cwd or self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        said = done.stdout + done.stderr
        assert (f"[{fails}]" in said) if fails else done.returncode in (0, 3), said
        return done.stdout

    def coordinator(self, *arguments: object, fails: str = "") -> str:
        """``smrfed-coordinator ... --home HOME`` from the folder above it."""
        return self.say("smrfed-coordinator", *arguments, "--home", self.home, fails=fails)

    def site(self, name: str, *arguments: object, fails: str = "") -> str:
        """``smrfed-site ...`` in the hospital's folder."""
        return self.say("smrfed-site", *arguments, cwd=self.folder / name, fails=fails)

    def start(self, name: str, program: str, *arguments: object, cwd: Path | None = None) -> None:
        """Start a command that stays; its output goes to ``NAME.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [command(program), *map(str, arguments)],
                cwd=cwd or self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def ended(self, name: str, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end of a command that was started; its exit status."""
        return self._running[name].wait(timeout_s)

    def stop(self, name: str) -> int:
        """SIGTERM, as systemd would; the exit status."""
        self._running[name].send_signal(signal.SIGTERM)
        return self.ended(name, 120)

    def close(self) -> None:
        """End every command that still runs."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        for process in self._running.values():
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()

    def make_coordinator(self, superlink: int, enrolment: int, public: int) -> None:
        """``init``, then the ports of this test in ``coordinator.toml``."""
        self.coordinator("init", "--address", f"127.0.0.1:{public}", "--name", "Consortium")
        dashboard, metrics = free_ports(2)
        with (self.home / "coordinator.toml").open("a") as file:
            file.write(f"enrolment_port = {enrolment}\ndashboard_port = {dashboard}\n")
            file.write(f"superlink_port = {superlink}\nmetrics_port = {metrics}\n")
        text = (self.home / "coordinator.toml").read_text().splitlines()
        last = {line.partition(" ")[0]: line for line in text if line}
        (self.home / "coordinator.toml").write_text("\n".join(last.values()) + "\n")

    def front(self, superlink: int, enrolment: int, public: int) -> NginxFront:
        """nginx with the files of ``deploy/nginx`` on the public port."""
        pki = self.home / "pki"
        certificate = ServerCertificate(pki / "ca.crt", pki / "server.crt", pki / "server.key")
        return NginxFront(self.folder / "nginx", certificate, superlink, enrolment, port=public)

    def make_site(self, name: str, number: int) -> None:
        """An archive, ``init``, and what a person fills in."""
        write_archive(self.folder / "archives" / name, np.random.default_rng(number))
        self.say("smrfed-site", "init", name, "--name", name)
        (port,) = free_ports(1)
        _edit(
            self.folder / name / "site.toml",
            (r'archive = "archive"', f'archive = "{self.folder / "archives" / name}"'),
            (r"# node_port = 9094", f"node_port = {port}"),
        )
        _edit(
            self.folder / name / "policy.toml",
            ("allow_evaluation = false", "allow_evaluation = true"),
        )

    def new_plan(self, name: str, sites: tuple[str, ...], rounds: int, seed: int) -> Path:
        """``plan new``, with a public seed that leaves every small hospital test patients."""
        plan = self.folder / f"{name}.toml"
        named = [part for site in sites for part in ("--site", f"{site}=6")]
        self.say("smrfed-coordinator", "plan", "new", plan, *named, "--rounds", rounds,
                 "--scans", "aligned", "--evaluate-every", rounds)  # fmt: skip
        text = re.sub(r"(?m)^seed = \d+", f"seed = {seed}", plan.read_text())
        plan.write_text(text.replace("min_sites = 2", "min_sites = 1"))
        return plan

    def token(self, site: str, *arguments: object) -> str:
        """What ``invite`` prints to be pasted."""
        return str(json.loads(self.coordinator("invite", site, *arguments, "--json"))["token"])

    def processes(self, folder: Path) -> dict[str, Any]:
        """Where the processes of a supervisor stand, by name."""
        content = json.loads((folder / "logs" / "processes.json").read_text())
        return {one["name"]: one for one in content["processes"]}

    def kill(self, folder: Path, name: str) -> None:
        """``kill -9`` one process of a supervisor."""
        os.kill(int(self.processes(folder)[name]["pid"]), signal.SIGKILL)

    def kill_serverapp(self, run: str) -> None:
        """``kill -9`` the process that drives a run."""
        holder = (self.home / "runs" / run / "lock").resolve()
        for process in self.mine():
            if any(Path(file.path) == holder for file in process.open_files()):
                process.kill()
                return
        raise AssertionError("nobody drives the run")

    def status(self, run: str) -> Any:
        """``smrfed-coordinator status NAME --json``."""
        return json.loads(
            self.say("smrfed-coordinator", "status", self.home / "runs" / run, "--json")
        )

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for something that happens by itself."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, f"{what}; {self.logs()}"
            time.sleep(1.0)

    def logs(self) -> str:
        """The ends of all logs, for a failed test."""
        files = [*self.folder.glob("*.log"), *self.folder.glob("*/state/logs/*.log")]
        return "\n".join(f"{file}:\n{file.read_text()[-1500:]}" for file in files)

    def mine(self) -> list[psutil.Process]:
        """Processes whose command line names this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if any(str(self.folder) in part for part in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def _edit(path: Path, *pairs: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
