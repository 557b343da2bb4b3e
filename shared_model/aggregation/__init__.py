"""How updates become the next model: what the plan says, and what travels beside the parameters."""
