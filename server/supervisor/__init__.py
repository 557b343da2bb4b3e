"""``smrfed-coordinator up``: the coordinator's processes under one supervisor."""
