"""Where each registered model keeps its class biases; no torch: the coordinator adds to them."""

from __future__ import annotations

#: Model name -> the parameter ``(C,)`` that is added to the logits and to nothing else.
HEAD_BIAS = {
    "connex": "network.heads.unified.bias",
    "multimodal": "head.bias",
    "resnet50": "head.bias",
    "resnet50-3d": "head.bias",
    "smrnet": "reasoner.head.bias",
    "smrnet-longitudinal": "reasoner.head.bias",
    "smrnet-published": "classifier.3.bias",
    "smrnet-volumes": "reasoner.head.bias",
    "vit-3d": "head.bias",
}
