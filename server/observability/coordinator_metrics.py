"""The coordinator's figures for Prometheus: runs, sites, connection, certificate, disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version

from cryptography import x509

from server.config import CoordinatorFolder
from server.enrolment.registry import Registry
from server.observability.run_metrics import RunMetrics
from shared_model.errors import SmrfedError
from shared_model.observability.prometheus import Metrics
from shared_model.supervision.state_file import STATE_FILE, read_states


class CoordinatorMetrics:
    """Called for each scrape.

    Args:
        home: the coordinator's folder.
        online: names of the connected sites, or SmrfedError; none: not asked.
    """

    def __init__(
        self, home: CoordinatorFolder, online: Callable[[], frozenset[str]] | None = None
    ) -> None:
        self._home = home
        self._online = online
        self._runs = RunMetrics(home.runs)

    def __call__(self) -> str:
        """Everything as Prometheus text; what cannot be read is told by its error's number."""
        out = Metrics("smrfed")
        out.gauge("coordinator_info", "Version of smrfed").set(1, version=version("smrfed"))
        self._runs.tell(out)
        problems = out.gauge("problem", "1 for a part that cannot be read, with its error's number")
        parts: dict[str, Callable[[Metrics], None]] = {
            "registry": self._registry,
            "superlink": self._connected,
            "certificate": self._certificate,
            "disk": self._disk,
            "processes": self._processes,
        }
        for part, tell in parts.items():
            try:
                tell(out)
            except SmrfedError as error:
                problems.set(1, part=part, code=error.code)
            except (OSError, ValueError) as error:
                problems.set(1, part=part, code=type(error).__name__)
        return out.render()

    def _registry(self, out: Metrics) -> None:
        if not self._home.registry.exists():
            return
        states = [site.state for site in Registry(self._home.registry).sites()]
        sites = out.gauge("sites", "Sites in the registry, by state")
        for state in ("invited", "enrolled", "revoked"):
            sites.set(states.count(state), state=state)

    def _connected(self, out: Metrics) -> None:
        if self._online is None:
            return
        up = out.gauge("superlink_up", "1 while the SuperLink answers on loopback")
        up.set(0)
        names = self._online()
        up.set(1)
        out.gauge("connected_sites", "Registered SuperNodes that are online").set(len(names))
        connected = out.gauge("site_connected", "1 for a site that is online")
        for name in sorted(names):
            connected.set(1, site=name)

    def _certificate(self, out: Metrics) -> None:
        ends = out.gauge("certificate_end_time_seconds", "When it ends, in seconds since 1970")
        for name, path in (
            ("server", self._home.certificate),
            ("authority", self._home.authority),
        ):
            if path.exists():
                certificate = x509.load_pem_x509_certificate(path.read_bytes())
                ends.set(certificate.not_valid_after_utc.timestamp(), certificate=name)

    def _disk(self, out: Metrics) -> None:
        facts = os.statvfs(self._home.path)
        out.gauge("disk_free_bytes", "Free on the coordinator's file system").set(
            facts.f_bavail * facts.f_frsize
        )

    def _processes(self, out: Metrics) -> None:
        up = out.gauge("process_up", "1 while a process of smrfed-coordinator up runs")
        starts = out.counter("process_starts_total", "How often the supervisor started it")
        for process in read_states(self._home.logs / STATE_FILE):
            name = str(process["name"])
            up.set(process["state"] == "running", process=name)
            starts.set(float(process["starts"]), process=name)
