"""The site agent: the only process that sees patients, and its door for the courier."""
