"""The coordinator's side of Flower: ServerApp, transport, control, app bundle."""
