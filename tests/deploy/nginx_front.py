"""The real nginx with the files of ``deploy/nginx``, on loopback, as an ordinary process."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from simulations.deployed.pki import ServerCertificate
from simulations.deployed.processes import free_ports

FILES = Path(__file__).parents[2] / "deploy" / "nginx"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class NginxFront:
    """nginx in front of a SuperLink and an enrolment service on ports of loopback.

    Only folders and ports differ from the files that an operator installs. ``extra`` is what he may
    put into ``smrfed.d``: an address list, client certificates.
    """

    def __init__(
        self,
        folder: Path,
        certificate: ServerCertificate,
        superlink_port: int,
        enrolment_port: int,
        extra: str = "",
        upstream_authority: Path | None = None,
        port: int | None = None,
    ) -> None:
        self.port = free_ports(1)[0] if port is None else port
        self._folder = folder
        self.log = folder / "access.log"
        for name in ("conf.d", "smrfed.d"):
            (folder / name).mkdir(parents=True)
        here = (FILES / "snippets" / "here-container.conf").read_text("utf-8")
        replaced = {
            "8443": f"127.0.0.1:{self.port}",
            "/run/secrets/server.crt": str(certificate.certificate),
            "/run/secrets/server.key": str(certificate.key),
            "/run/secrets/ca.crt": str(upstream_authority or certificate.authority),
            "/dev/stdout": str(self.log),
            "/dev/stderr": str(folder / "error.log"),
        }
        (folder / "smrfed.d" / "here.conf").write_text(_replace(here, replaced))
        (folder / "smrfed.d" / "extra.conf").write_text(extra)
        replaced = {
            "/etc/nginx": str(folder),
            "127.0.0.1:18000": f"127.0.0.1:{superlink_port}",
            "127.0.0.1:18001": f"127.0.0.1:{enrolment_port}",
        }
        server = (FILES / "smrfed.conf").read_text("utf-8")
        (folder / "conf.d" / "smrfed.conf").write_text(_replace(server, replaced))
        main = (FILES / "nginx.conf").read_text("utf-8")
        replaced = {"/etc/nginx": str(folder), "/tmp": str(folder), "/dev/stderr": "stderr"}
        (folder / "nginx.conf").write_text(_replace(main, replaced))

    def __enter__(self) -> NginxFront:
        """Start it, and wait until it accepts connections."""
        assert NGINX is not None
        base = [NGINX, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
        checked = subprocess.run([*base, "-t"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr, checked.stderr
        # Without `user`, workers of a master that root started would be nobody: it may not even
        # enter the test's folder.
        who = "user root; " if Path("/proc/self").stat().st_uid == 0 else ""
        self._process = subprocess.Popen([*base, "-g", f"{who}daemon off;"])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        self._process.terminate()
        raise AssertionError("nginx does not listen")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)


def _replace(text: str, replaced: dict[str, str]) -> str:
    assert not [old for old in replaced if old not in text]
    # In one pass: what is put in is not looked at again.
    return re.sub("|".join(map(re.escape, replaced)), lambda found: replaced[found[0]], text)
