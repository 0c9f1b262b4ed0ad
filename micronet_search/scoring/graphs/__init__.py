"""The layer table of a network in an ONNX file, made here or elsewhere, without running it."""
