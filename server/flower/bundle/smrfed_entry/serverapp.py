"""The coordinator's entry point: the installed ServerApp."""

from server.flower import app as installed

app = installed.app
