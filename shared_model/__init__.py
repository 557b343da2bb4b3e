"""What every party of a federation must agree on: model, plan, protocol, privacy accounting."""
