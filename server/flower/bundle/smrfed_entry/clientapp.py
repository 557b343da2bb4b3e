"""The site's entry point: the installed courier."""

from client.courier.app import app as installed

app = installed
