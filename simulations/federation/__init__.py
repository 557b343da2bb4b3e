"""Federations without a network: in this process, or under Ray."""
