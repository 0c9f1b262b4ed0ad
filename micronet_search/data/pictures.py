"""Encoded images and the pixels in them."""

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
from micronet_search.data import DataError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "WEBP")
"""The formats that are read. PIL goes by the content, and passes PostScript to another program."""
LARGEST_SIDE = 512
_AT_MOST = f"expected {LARGEST_SIDE} x {LARGEST_SIDE} pixels at most"


@dataclass(frozen=True)
class Picture:
    """One encoded image: its bytes or the file that holds them, and its place for messages."""

    content: bytes | Path
    place: str

    def open(self) -> ImageFile:
        """Opens the image and reads its header alone; raises DataError where it cannot be read."""
        stream = BytesIO(self.content) if isinstance(self.content, bytes) else self.content
        if isinstance(stream, Path) and not stream.is_file():  # opening a pipe would wait for ever
            raise self.unreadable("no file")
        try:
            with warnings.catch_warnings():  # our own bound on the size is far lower than PIL's
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                return Image.open(stream, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise DataError(f"{self.place} is far too large ({error}), {_AT_MOST}") from error
        except Exception as error:  # on damaged bytes PIL raises nearly anything
            raise self.unreadable(error) from error

    def unreadable(self, reason: object) -> DataError:
        """Returns the error to raise where the image is none, or is damaged."""
        # PIL's text for an unknown format only repeats the buffer or the file
        why = "" if isinstance(reason, UnidentifiedImageError) else f" ({reason})"
        readable = f"expected {', '.join(FORMATS[:-1])} or WebP"
        return DataError(f"{self.place} is damaged or no image{why}, {readable}")


def shape(pictures: Sequence[Picture]) -> Input:
    """Returns the one shape of all pictures, from their headers, or raises DataError."""
    with pictures[0].open() as image:
        first = image.size
    channels = 1
    for picture in pictures:
        with picture.open() as image:
            found = f"{picture.place} has {image.size[0]} x {image.size[1]} pixels"
            if max(image.size) > LARGEST_SIDE:
                raise DataError(f"{found}, {_AT_MOST}")
            if _is_deep(image):
                raise DataError(f"{picture.place} has more than 8 bits a channel, expected 8")
            if image.size != first:
                expected = f"{first[0]} x {first[1]} pixels as in {pictures[0].place}"
                raise DataError(f"{found}, expected {expected}")
            if image.mode not in ("1", "L", "LA", "La"):  # those of grayscale
                channels = 3
    return Input(channels=channels, height=first[1], width=first[0])


def decode(pictures: Sequence[Picture], shape: Input) -> NDArray[np.uint8]:
    """Returns the pixels (N, C, H, W) of pictures that all have that shape, or raises DataError."""
    height, width, channels = shape.height, shape.width, shape.channels
    pixels = np.empty((len(pictures), channels, height, width), np.uint8)
    for row, picture in enumerate(pictures):
        with picture.open() as image:
            try:
                values = np.asarray(image.convert("L" if channels == 1 else "RGB"))
                pixels[row] = values.reshape(height, width, channels).transpose(2, 0, 1)
            except Exception as error:  # as above
                raise picture.unreadable(error) from error
    return pixels


def _is_deep(image: ImageFile) -> bool:
    if image.mode.split(";")[0] in ("I", "F"):  # for instance I;16: converting it clips at 255
        return True
    # PIL reduces deeper colours to 8 bits, and says so in the arguments of its decoder alone
    for tile in image.tile:
        match tile[3]:
            case str(raw) if raw.endswith(";16B"):  # PNG
                return True
            case (str(), int(largest)) if largest > 255:  # PPM
                return True
    return False
