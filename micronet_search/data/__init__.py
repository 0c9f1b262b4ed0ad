"""Datasets as tensors, and the batches that are cut from them on the device."""
