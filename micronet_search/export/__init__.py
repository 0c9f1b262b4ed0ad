"""Shipping a network: ONNX, stored tensors, the model card, and the check that they agree."""
