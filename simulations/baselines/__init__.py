"""What a simple classifier reaches on the same patients: the ladder under the federated model."""
