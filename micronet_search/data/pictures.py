"""Encoded images and the pixels in them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from micronet_search.config.network import Input
from micronet_search.data.errors import DataError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "WEBP")
"""All that is read. PIL goes by the content, and would hand PostScript to another program."""
LARGEST_SIDE = 512
GRAYSCALE_MODES = ("1", "L", "LA", "La")
WIDE_MODES = ("I", "F")  # and their variants, I;16 for instance: converting them clips at 255
_READABLE = f"expected {', '.join(FORMATS[:-1])} or WebP"
_AT_MOST = f"expected {LARGEST_SIDE} x {LARGEST_SIDE} pixels at most"


@dataclass(frozen=True)
class Picture:
    """One encoded image.

    Attributes:
        content: Its bytes, or the file that holds them.
        place: Where it comes from, for messages.
    """

    content: bytes | Path
    place: str

    def open(self) -> ImageFile:
        """The image, its header alone read.

        Raises:
            DataError: There is none that can be read.
        """
        stream = BytesIO(self.content) if isinstance(self.content, bytes) else self.content
        if isinstance(stream, Path) and not stream.is_file():  # opening a pipe would wait for ever
            raise DataError(f"{self.place} is damaged or no image (no file), {_READABLE}")
        try:
            with warnings.catch_warnings():  # our own bound on the size is far lower than PIL's
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                return Image.open(stream, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise DataError(f"{self.place} is far too large ({error}), {_AT_MOST}") from error
        except Exception as error:  # on damaged bytes PIL raises nearly anything
            raise _unreadable(self.place, error) from error


def shape(pictures: Sequence[Picture]) -> Input:
    """The one shape of all pictures, from their headers; one channel if all are grayscale.

    Raises:
        DataError: A picture cannot be read, is larger than 512 x 512 pixels, has more than 8
            bits a channel, or differs in size from the first.
    """
    expected: tuple[int, int] | None = None
    channels = 1
    for picture in pictures:
        with picture.open() as image:
            size, mode, deep = image.size, image.mode, _is_deep(image)
        if max(size) > LARGEST_SIDE:
            raise DataError(f"{picture.place} has {_pixels(size)}, {_AT_MOST}")
        if deep:
            raise DataError(f"{picture.place} has more than 8 bits a channel, expected 8")
        expected = expected or size
        if size != expected:
            raise DataError(
                f"{picture.place} has {_pixels(size)}, expected {_pixels(expected)} as in "
                f"{pictures[0].place}"
            )
        if mode not in GRAYSCALE_MODES:
            channels = 3
    assert expected is not None
    return Input(channels=channels, height=expected[1], width=expected[0])


def _is_deep(image: ImageFile) -> bool:
    """Whether a channel has more than 8 bits."""
    if image.mode.split(";")[0] in WIDE_MODES:
        return True
    for tile in image.tile:  # PIL makes 8 bits of deeper colours, and says so to its decoder alone
        match tile[3]:
            case str(raw) if raw.endswith(";16B"):  # of PNG
                return True
            case (str(), int(largest)) if largest > 255:  # of PPM
                return True
    return False


def decode(pictures: Sequence[Picture], shape: Input) -> NDArray[np.uint8]:
    """The pixels (N, C, H, W) of pictures that all have that shape.

    Raises:
        DataError: A picture is damaged.
    """
    height, width, channels = shape.height, shape.width, shape.channels
    mode = "L" if channels == 1 else "RGB"
    pixels = np.empty((len(pictures), channels, height, width), np.uint8)
    for row, picture in enumerate(pictures):
        with picture.open() as image:
            try:
                values = np.asarray(image.convert(mode)).reshape(height, width, channels)
            except Exception as error:  # as above
                raise _unreadable(picture.place, error) from error
        pixels[row] = values.transpose(2, 0, 1)
    return pixels


def _unreadable(place: str, error: Exception) -> DataError:
    # PIL names the buffer or the file again after a colon or in brackets; the place says more.
    reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
    return DataError(f"{place} is damaged or no image{reason}, {_READABLE}")


def _pixels(size: tuple[int, int]) -> str:
    width, height = size
    return f"{width} x {height} pixels"
