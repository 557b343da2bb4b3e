"""Logs and metrics that monitoring may read: no patient data, no secrets."""
