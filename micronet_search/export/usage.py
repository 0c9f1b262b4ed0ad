"""How to run a shipped network without this package: its input, its output, and code."""

from __future__ import annotations

import json
from pathlib import Path

from micronet_search.config.network import Input
from micronet_search.config.sweep import Dataset

_WHOLE = {
    "digits": """\
from sklearn.datasets import load_digits

pixels = load_digits().images[:10]  # 0 to 16
image = np.rint(pixels * 255 / 16).astype(np.uint8)[:, None]
""",
    "cifar10": """\
from torchvision.datasets import CIFAR10

pixels = CIFAR10("data", train=False, download=True).data[:10]  # images, height, width, channels
image = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
""",
}

_FOLDER = """\
from pathlib import Path

from PIL import Image

files = Path({test}).glob("[!.]*/[!.]*")
file = min(file for file in files if file.suffix not in (".db", ".ini"))
picture = Image.open(file).convert("{mode}")
"""

_PARQUET = """\
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

rows = pd.read_parquet(min(Path({root}).glob("test-*.parquet")))
cell = rows["img" if "img" in rows else "image"][0]
content = cell["bytes"] if isinstance(cell, dict) else cell
picture = Image.open(BytesIO(content)).convert("{mode}")
"""

_PIXELS = """\
pixels = np.array(picture).reshape(1, {height}, {width}, {channels})
image = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
"""

_READ = {"folder": _FOLDER, "parquet": _PARQUET}


def metadata(image: Input, names: tuple[str, ...]) -> dict[str, str]:
    """Returns what the ONNX file says about its input and output.

    The keys that begin with `Image.` are those that ONNX defines for inputs that are images.
    """
    return {
        "input": describe(image),
        "Image.BitmapPixelFormat": "Gray8" if image.channels == 1 else "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
        "classes": listed(names),
    }


def describe(image: Input) -> str:
    """Describes the input in words: type, shape, range and channels."""
    shape = f"N x {image.channels} x {image.height} x {image.width}"
    channels = "grayscale" if image.channels == 1 else "channels red, green, blue"
    return f"uint8, {shape} (images, channels, height, width), pixels from 0 to 255, {channels}"


def listed(names: tuple[str, ...]) -> str:
    """Returns the names of the classes as JSON."""
    return json.dumps(names, ensure_ascii=False)


def example(dataset: Dataset, image: Input) -> str:
    """Returns Python that makes the network's input, `image`, from images of a dataset.

    It calls numpy `np`, and expects the folder of a dataset in the current folder.
    """
    if dataset.name in _WHOLE:
        return _WHOLE[dataset.name]
    if dataset.name not in _READ:
        shape = (1, image.channels, image.height, image.width)
        return f"image = np.zeros({shape}, np.uint8)  # images of the dataset in this place\n"
    root, mode = Path(folder(dataset)), "L" if image.channels == 1 else "RGB"
    names = {"root": repr(str(root)), "test": repr(str(root / "test")), "mode": mode}
    return _READ[dataset.name].format(**names) + _PIXELS.format(**image.model_dump())


def folder(dataset: Dataset) -> str:
    """Returns the name of a dataset's own folder without its path, or nothing if it has none."""
    own = dataset.root if dataset.name in ("folder", "parquet") else None
    return Path(own).name if own else ""
