"""A small read-only web page on loopback: login by token, strict headers, live sections."""
