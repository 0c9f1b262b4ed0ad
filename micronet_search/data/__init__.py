"""Datasets as tensors, and the batches that are cut from them on the device."""


class DataError(ValueError):
    """A dataset is not as expected: one line with what was found, where, and what was expected."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
