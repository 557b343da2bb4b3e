"""Where each registered model keeps its class biases; no torch: the coordinator adds to them."""

from __future__ import annotations

#: Model name -> the parameter ``(C,)`` that is added to the logits and to nothing else.
HEAD_BIAS = {"smrnet": "reasoner.head.bias", "smrnet-published": "classifier.3.bias"}
