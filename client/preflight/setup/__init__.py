"""What was agreed and set up: policy, plan, keys, files, records, data, and what runs."""
