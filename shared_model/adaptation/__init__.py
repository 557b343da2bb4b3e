"""How the parties meet what differs between sites: released moments, and what uses them."""
