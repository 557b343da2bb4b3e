"""The coordinator's entry point: the installed ServerApp."""

from server.flower.app import app as installed

app = installed
