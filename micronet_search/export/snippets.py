"""The code on a model card that makes a network's input from images of its dataset."""

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

_READ = {
    "folder": """\
from pathlib import Path

from PIL import Image

files = Path({test}).glob("[!.]*/[!.]*")
file = min(file for file in files if file.suffix not in (".db", ".ini"))
picture = Image.open(file).convert("{mode}")
""",
    "parquet": """\
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

rows = pd.read_parquet(min(Path({root}).glob("test-*.parquet")))
cell = rows["img" if "img" in rows else "image"][0]
content = cell["bytes"] if isinstance(cell, dict) else cell
picture = Image.open(BytesIO(content)).convert("{mode}")
""",
}
_PIXELS = """\
pixels = np.array(picture).reshape(1, {height}, {width}, {channels})
image = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
"""


def example(dataset: Dataset, image: Input) -> str:
    """Returns Python, with numpy as `np`, that makes the input `image` from images of a dataset."""
    if dataset.name in _WHOLE:
        return _WHOLE[dataset.name]
    if dataset.name not in _READ:
        shape = (1, image.channels, image.height, image.width)
        return f"image = np.zeros({shape}, np.uint8)  # images of the dataset in this place\n"
    root, mode = Path(folder_of(dataset)), "L" if image.channels == 1 else "RGB"
    names = {"root": repr(str(root)), "test": repr(str(root / "test")), "mode": mode}
    return _READ[dataset.name].format(**names) + _PIXELS.format(**image.model_dump())


def folder_of(dataset: Dataset) -> str:
    """Returns the name of a dataset's folder, if it has one of its own."""
    own = dataset.root if dataset.name in ("folder", "parquet") else None
    return Path(own).name if own else ""
