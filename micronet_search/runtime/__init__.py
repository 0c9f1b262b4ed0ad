"""A shipped network as ONNX Runtime runs it: its file, its sessions, and what they take."""


class ExportError(Exception):
    """The exported file does not do what the network does; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
