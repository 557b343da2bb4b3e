"""``smrfed-site check``: what hospital IT runs before anybody is rung, one check per module."""
