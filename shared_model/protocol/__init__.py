"""Sealed messages between coordinator and sites."""
