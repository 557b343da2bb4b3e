"""From a site's model and cached inputs to SMR-Net's own types, for explanations."""

from __future__ import annotations

from client.training.site_model import SiteModel
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.tokens import Tokens


def smrnet_of(model: SiteModel) -> SMRNet:
    """The SMR-Net inside; raises TypeError for another model."""
    if not isinstance(model.model, SMRNet):
        raise TypeError(f"explanations need SMR-Net, not {type(model.model).__name__}")
    return model.model


def first_scan(inputs: object) -> Tokens:
    """Tokens of a patient's first scan; raises TypeError when the model does not cache tokens."""
    if not isinstance(inputs, Tokens):
        raise TypeError(f"explanations need cached tokens, not {type(inputs).__name__}")
    return inputs[[0]]
