"""The site's entry point: the installed courier."""

from client.courier import app as installed

app = installed.app
