"""From mild cognitive impairment to Alzheimer's disease: what an earlier scan adds."""
