"""What a privacy budget costs in utility, at these numbers of patients, before anyone spends it."""
