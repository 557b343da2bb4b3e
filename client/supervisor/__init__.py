"""``smrfed-site up``: the hospital's processes under one supervisor."""
