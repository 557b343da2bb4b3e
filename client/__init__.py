"""The hospital's side: archive, training, privacy, egress, agent and courier."""
