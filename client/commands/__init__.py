"""The commands of ``smrfed-site``, one module per occasion."""
