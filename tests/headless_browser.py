"""Headless chromium over the DevTools protocol: look, run scripts, collect what goes wrong."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0


def require_chromium() -> str:
    """Path of the browser; skips the test where there is none."""
    pytest.importorskip("websockets.sync.client", reason="the package websockets is not installed")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) is not None:
            return path
    pytest.skip("no chromium on this machine")


class Browser:
    """One page of one browser; a context manager. ``errors`` are console errors and violations."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="smrfed-browser-")
        self._process = subprocess.Popen(
            [
                *(require_chromium(), "--headless", "--no-sandbox", "--disable-gpu"),
                *("--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--remote-debugging-port=0", "--remote-allow-origins=*"),
                *(f"--user-data-dir={self._profile}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        try:
            self._socket = self._connect()
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        from websockets.sync.client import connect

        file = Path(self._profile) / "DevToolsActivePort"
        wait_for(lambda: file.exists() and "\n" in file.read_text(), "the browser's port")
        port = file.read_text().split("\n")[0]

        def pages() -> list[dict[str, Any]]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
                return [page for page in json.load(answer) if page["type"] == "page"]

        wait_for(lambda: bool(pages()), "a page")
        return connect(pages()[0]["webSocketDebuggerUrl"], max_size=64 << 20, open_timeout=30)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)
        raise AssertionError(f"no answer to {method}")

    def _note(self, message: dict[str, Any]) -> None:
        method, about = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(f"{about['entry']['source']}: {about['entry']['text']}")
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(about["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.errors.append(str(about["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def evaluate(self, script: str) -> Any:
        """The value of a script in the page."""
        said = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def open(self, address: str) -> None:
        """Navigate, and wait until the document is complete."""
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def leave(self) -> None:
        """Show nothing."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")

    def wait(self, script: str, seconds: float = PATIENCE_S) -> None:
        """Until the script is true."""

        def true() -> bool:
            try:
                return bool(self.evaluate(script))
            except AssertionError:
                return False  # between two pages

        wait_for(true, script, seconds)

    def window(self, width: int, height: int, *, dark: bool = False) -> None:
        """Size of the window in CSS px, and its colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the browser."""
        if hasattr(self, "_socket"):
            self._socket.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_for(condition: Any, what: str, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.1)
