"""Where the randomness of augmentation comes from: public values and the patient alone."""

from __future__ import annotations

import hashlib
import hmac
import json

import numpy as np

_KEY = b"smrfed augmentation v1"


def augmentation_stream(*parts: str | int) -> np.random.Generator:
    """A random generator that only ``parts`` decide: equal parts, equal bits, in any process.

    Why it may be seeded, unlike the noise and the patient sampler of privacy mode ``local``: the
    guarantee comes from the clip and from noise that nobody can repeat
    (:class:`shared_model.privacy.secure_random.SecureRandom`). Augmentation comes before the clip.
    A clipped contribution has norm at most C whatever was done to the scan, so its randomness may
    be known to everybody. What the guarantee needs instead is that a patient's contribution does
    not depend on who else is there: a shared stream, drawn from in the order of the batch, would
    give every later patient other augmentations when one leaves, and one patient would move the sum
    by many times C. Keyed by the patient, nobody else moves.

    Args:
        parts: seed of the plan, round, step, patient, scan, draw, or what else tells draws apart.
    """
    # JSON keeps the parts apart: ("a", "bc") and ("ab", "c") are two texts.
    message = json.dumps(parts, separators=(",", ":")).encode()
    digest = hmac.digest(_KEY, message, hashlib.sha256)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest))))
