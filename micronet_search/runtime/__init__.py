"""A shipped network as ONNX Runtime runs it: its file, its sessions, and what they take."""

OPSET_OLDEST, OPSET_NEWEST = 14, 25
"""The oldest opset in which a network can be written, and the one with all of its types."""


class ExportError(Exception):
    """The exported file does not do what the network does; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
