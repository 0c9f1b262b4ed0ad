"""Shipping a network: ONNX, stored tensors, the model card, and the check that they agree."""


class ExportError(Exception):
    """The exported file does not do what the network does; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
