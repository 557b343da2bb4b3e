"""How a hospital joins a federation, and what it keeps of it."""
