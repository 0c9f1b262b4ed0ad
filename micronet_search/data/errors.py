"""What is said about a dataset that cannot be used."""

from __future__ import annotations


class DataError(ValueError):
    """A dataset is not as expected: one line with what was found, where, and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
