"""Leaving out one of a patient's two modalities at random, so that either is learnt alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ModalityDropout(nn.Dropout):
    """In training, with probability ``p``, one modality of a patient who has both; never both.

    Each patient has a draw of their own from torch's default generator, which
    ``client.training.deterministic`` seeds where there is no privacy. A kind of ``nn.Dropout``, so
    that what silences dropout silences this too.
    """

    def forward(self, present: Tensor) -> Tensor:
        """Flags ``(B, 2)`` to flags, 0 where a modality is missing or left out."""
        if not self.training or self.p == 0:
            return present
        drawn = torch.rand_like(present[:, :1])
        half = self.p / 2
        without = torch.cat((drawn < half, (drawn >= half) & (drawn < self.p)), dim=1)
        both = present.prod(dim=1, keepdim=True)
        return present * (1 - both * without.to(present.dtype))
