"""One file per registered model: what it is, how it is built, and which parameters are whose."""
