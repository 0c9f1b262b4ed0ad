"""What is said about an export that fails."""

from __future__ import annotations


class ExportError(Exception):
    """The exported file does not do what the network does: one line that says how it fails."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
