"""Parquet files, class folders and CIFAR-10's archive: what is read, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from micronet_search.config.network import Input
from micronet_search.config.sweep import Dataset
from micronet_search.data import DataError
from micronet_search.data.sources import SOURCES
from micronet_search.data.splits import Splits, describe, load
from micronet_search.export import card

Pixels = np.ndarray


def pixels(seed: int, size: tuple[int, ...] = (6, 5, 3)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def png(values: Pixels, mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(stream, "PNG")
    return stream.getvalue()


def png_of(width: int, height: int, depth: int, kind: int, data: bytes = b"") -> bytes:
    """A PNG whose header says anything; kinds are 2 for RGB, 4 for gray with alpha, 6 for RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def giant_png(width: int, height: int) -> bytes:
    """A PNG whose header alone is large."""
    return png_of(width, height, 8, 2)


def deep_png(kind: int, channels: int) -> bytes:
    """A PNG of 5 x 6 pixels with 16 bits a channel."""
    return png_of(5, 6, 16, kind, zlib.compress((b"\0" + b"\1\2" * channels * 5) * 6))


def encoded_as(kind: str, values: Pixels, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream.getvalue()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n%%EndComments\nshowpage\n%%EOF\n"


def rows(images: list[Any], labels: list[Any] | None = None, image: str = "img") -> pd.DataFrame:
    labels = [row % 2 for row in range(len(images))] if labels is None else labels
    return pd.DataFrame({image: images, "label": labels})


def encoded(count: int, first: int = 0) -> list[bytes]:
    return [png(pixels(first + row)) for row in range(count)]


def write_parquet(root: Path, train: pd.DataFrame, test: pd.DataFrame | None = None) -> Dataset:
    train.to_parquet(root / "train-0.parquet")
    (rows(encoded(4, 90)) if test is None else test).to_parquet(root / "test-0.parquet")
    return Dataset(name="parquet", root=str(root), validation=2)


def write_folder(
    root: Path, train: dict[str, list[bytes]], test: dict[str, list[bytes]]
) -> Dataset:
    for part, classes in (("train", train), ("test", test)):
        for name, images in classes.items():
            (root / part / name).mkdir(parents=True)
            for number, image in enumerate(images):
                (root / part / name / f"{number}.png").write_bytes(image)
    return Dataset(name="folder", root=str(root), validation=2)


def images_in(splits: Splits) -> set[tuple[bytes, int]]:
    return {
        (image.numpy().tobytes(), int(label))
        for split in (splits.train, splits.validation)
        for image, label in zip(split.images, split.labels, strict=True)
    }


def expected(values: list[Pixels], labels: list[int]) -> set[tuple[bytes, int]]:
    return {
        (image.transpose(2, 0, 1).tobytes(), label)
        for image, label in zip(values, labels, strict=True)
    }


@pytest.mark.parametrize("wrapped", [True, False], ids=["struct", "bytes"])
@pytest.mark.parametrize("column", ["img", "image"])
def test_parquet_gives_the_pixels_that_were_written(
    tmp_path: Path, wrapped: bool, column: str
) -> None:
    images: list[Any] = encoded(8)
    if wrapped:
        images = [{"bytes": image, "path": None} for image in images]
    dataset = write_parquet(tmp_path, rows(images, image=column))
    splits = load(dataset)
    assert images_in(splits) == expected([pixels(row) for row in range(8)], [0, 1] * 4)
    assert splits.input == Input(channels=3, height=6, width=5)
    assert describe(dataset) == (splits.input, 2)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [6, 2, 4]


def test_several_shards_are_one_split(tmp_path: Path) -> None:
    dataset = write_parquet(tmp_path, rows(encoded(4)))
    rows(encoded(4, first=4)).to_parquet(tmp_path / "train-1.parquet")
    assert images_in(load(dataset)) == expected([pixels(row) for row in range(8)], [0, 1] * 4)


def test_grayscale_has_one_channel(tmp_path: Path) -> None:
    gray = [png(pixels(row, (6, 5))) for row in range(8)]
    dataset = write_parquet(tmp_path, rows(gray), rows(gray))
    assert load(dataset).input == Input(channels=1, height=6, width=5)


def test_one_image_in_colour_makes_all_rgb(tmp_path: Path) -> None:
    gray = [png(pixels(row, (6, 5))) for row in range(8)]
    dataset = write_parquet(tmp_path, rows(gray))  # the test images have colours
    splits = load(dataset)
    assert splits.input.channels == 3
    assert torch.equal(splits.train.images[:, 0], splits.train.images[:, 2])


def test_folder_classes_are_sorted_by_name(tmp_path: Path) -> None:
    train = {"dog": encoded(4, 4), "cat": encoded(4)}
    dataset = write_folder(tmp_path, train, {"cat": encoded(1, 90), "dog": encoded(1, 91)})
    (tmp_path / "train" / "cat" / ".DS_Store").write_bytes(b"not an image")
    (tmp_path / "train" / "README").write_text("not a class")
    splits = load(dataset)
    assert images_in(splits) == expected([pixels(row) for row in range(8)], [0] * 4 + [1] * 4)
    assert splits.test.labels.tolist() == [0, 1]
    assert splits.names == ("cat", "dog")
    assert describe(dataset) == (Input(channels=3, height=6, width=5), 2)


def example(dataset: Dataset, splits: Splits) -> Pixels:
    """What the code on a model card makes of the dataset's images, in the current folder."""
    found = {"np": np}
    exec(card.example(dataset, splits.input), found)
    image: Pixels = found["image"]
    return image


@pytest.mark.parametrize("size", [(6, 5, 3), (6, 5)], ids=["colour", "gray"])
@pytest.mark.parametrize("kind", ["parquet", "parquet of structs", "folder"])
def test_a_model_card_reads_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, size: tuple[int, ...]
) -> None:
    """Also where the dataset lies elsewhere: its folder has the same name."""
    images = [png(pixels(row, size)) for row in range(8)]
    if kind == "folder":
        classes = {"a": images[:4], "b": images[4:]}
        dataset = write_folder(tmp_path / "my own", classes, classes)
        (tmp_path / "my own/test/a/.hidden").write_text("")
        (tmp_path / "my own/test/a/Thumbs.db").write_text("")
    else:
        (tmp_path / "my own").mkdir()
        cells = [{"bytes": image} for image in images] if "structs" in kind else images
        dataset = write_parquet(tmp_path / "my own", rows(cells), rows(cells, image="image"))
    monkeypatch.chdir(tmp_path)
    splits = load(dataset)
    assert np.array_equal(example(dataset, splits), splits.test.images[:1])


NAMES = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}


@pytest.mark.parametrize(
    ("note", "names"),
    [
        (json.dumps(NAMES), ("cat", "dog")),
        (json.dumps(NAMES).replace("dog", "\\ud800"), ("cat", "?")),
        (json.dumps(NAMES).replace('"dog"', "1"), ()),
        (json.dumps(NAMES).replace('"cat", ', ""), ()),
        ("[" * 100_000, ()),
        ("{", ()),
        ("[1]", ()),
    ],
    ids=["names", "no text", "a number", "one of two", "deep", "cut", "a list"],
)
def test_parquet_may_name_its_classes(tmp_path: Path, note: str, names: tuple[str, ...]) -> None:
    dataset = write_parquet(tmp_path, rows(encoded(8)))
    table = parquet.read_table(tmp_path / "train-0.parquet")
    table = table.replace_schema_metadata({"huggingface": note})
    parquet.write_table(table, tmp_path / "train-0.parquet")
    assert load(dataset).names == names


def test_every_name_of_a_dataset_has_a_source() -> None:
    assert set(SOURCES) == set(get_args(Dataset.model_fields["name"].annotation))


def refused(dataset: Dataset, *parts: str, described: bool = True) -> None:
    """Both ways in raise one line that holds all parts."""
    for use in (load, describe) if described else (load,):
        with pytest.raises(DataError) as caught:
            use(dataset)
        message = str(caught.value)
        assert "\n" not in message
        for part in (*parts, "expected"):
            assert part in message


@pytest.mark.parametrize("name", ["parquet", "folder"])
def test_a_missing_folder(tmp_path: Path, name: Any) -> None:
    refused(Dataset(name=name, root=str(tmp_path / "no")), f"{tmp_path}/no is no folder", name)


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = {"a": encoded(4), "b": encoded(4)}
    dataset = write_folder(tmp_path, classes, classes)

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    refused(dataset, f"{tmp_path} cannot be read", "Permission denied")


@pytest.mark.parametrize("part", ["train", "test"])
def test_parquet_of_one_split(tmp_path: Path, part: str) -> None:
    dataset = write_parquet(tmp_path, rows(encoded(8)))
    (tmp_path / f"{part}-0.parquet").unlink()
    refused(dataset, f"no {part}-*.parquet in {tmp_path}")


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        (pd.DataFrame({"x": [1], "label": [0]}), ["has the columns x, label", "img or image"]),
        (pd.DataFrame({"img": [b""]}), ["has the columns img"]),
        (rows(["text"] * 8), ["string in the column img"]),
        (rows([{"path": "a"}] * 8), ["struct<path", "in the column img"]),
        (rows([b"", None]), ["row 1 has no image bytes"]),
        (rows(encoded(8), ["a", "b"] * 4), ["string in the column label, expected integers"]),
        (rows(encoded(8), [0.0, 1.0] * 4), ["double in the column label"]),
        (rows(encoded(2), pd.array([0, None], "Int64")), ["1 rows without a label"]),
        (rows(encoded(8), [1, 2] * 4), ["training labels of", "are 1, 2, expected", "from 0"]),
        (rows(encoded(8), [0, 2] * 4), ["are 0, 2"]),
        (rows(encoded(8), [-1, 0] * 4), ["are -1, 0"]),
        (rows(encoded(8), [0] * 8), ["are 0, expected"]),
    ],
    ids=lambda value: None if isinstance(value, pd.DataFrame) else value[0],
)
def test_other_columns_and_labels(tmp_path: Path, frame: pd.DataFrame, parts: list[str]) -> None:
    refused(write_parquet(tmp_path, frame), str(tmp_path), *parts)


def test_no_rows(tmp_path: Path) -> None:
    empty = rows([]).astype({"img": pd.ArrowDtype(pyarrow.binary()), "label": int})
    refused(write_parquet(tmp_path, empty), "train-0.parquet holds no rows")


def test_test_labels_that_training_lacks(tmp_path: Path) -> None:
    dataset = write_parquet(tmp_path, rows(encoded(8)), rows(encoded(2, 90), [0, 7]))
    refused(dataset, "test labels of", "include 7, expected 0 to 1")


@pytest.mark.parametrize("content", [b"not parquet", b"PAR1 cut short", b""])
def test_a_corrupt_parquet_file(tmp_path: Path, content: bytes) -> None:
    dataset = write_parquet(tmp_path, rows(encoded(8)))
    (tmp_path / "train-0.parquet").write_bytes(content)
    refused(dataset, f"{tmp_path}/train-0.parquet cannot be read")


def test_a_parquet_file_with_a_damaged_page(tmp_path: Path) -> None:
    dataset = write_parquet(tmp_path, rows(encoded(200)))
    content = bytearray((tmp_path / "train-0.parquet").read_bytes())
    content[10:400] = b"\xff" * 390
    (tmp_path / "train-0.parquet").write_bytes(content)
    refused(dataset, f"{tmp_path}/train-0.parquet cannot be read")


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        (b"not an image", ["row 3 is damaged or no image"]),
        (png(pixels(3))[:20], ["row 3 is damaged or no image"]),
        (png(pixels(3, (5, 6, 3))), ["row 3 has 6 x 5 pixels, expected 5 x 6", "row 0"]),
        (giant_png(513, 6), ["row 3 has 513 x 6 pixels, expected 512 x 512"]),
        (giant_png(10_000, 10_000), ["row 3 has 10000 x 10000 pixels, expected 512 x 512"]),
        (giant_png(100_000, 100_000), ["row 3 is far too large", "expected 512 x 512"]),
        (png(pixels(3, (6, 5)).astype(np.uint16) * 256), ["row 3 has more than 8 bits a channel"]),
        (deep_png(2, 3), ["row 3 has more than 8 bits a channel"]),
        (deep_png(4, 2), ["row 3 has more than 8 bits a channel"]),
        (deep_png(6, 4), ["row 3 has more than 8 bits a channel"]),
        (b"P6 5 6 1023\n" + bytes(180), ["row 3 has more than 8 bits a channel"]),
        (b"P3 5 6 65535\n" + b"700 " * 90, ["row 3 has more than 8 bits a channel"]),
        (b"Pf 5 6 -1.0\n" + bytes(120), ["row 3 has more than 8 bits a channel"]),
        (POSTSCRIPT, ["row 3 is damaged or no image, expected BMP, GIF, JPEG, PNG, PPM or WebP"]),
        (encoded_as("TIFF", pixels(3)), ["row 3 is damaged or no image, expected BMP"]),
    ],
    ids=[
        *("text", "header", "size", "wide", "large", "bomb", "16-bit gray", "16-bit RGB"),
        *("16-bit LA", "16-bit RGBA", "10-bit PPM", "16-bit PPM", "PFM", "PostScript", "TIFF"),
    ],
)
def test_images_that_are_refused(tmp_path: Path, image: bytes, parts: list[str]) -> None:
    images = encoded(8)
    images[3] = image
    dataset = write_parquet(tmp_path, rows(images))
    refused(dataset, f"{tmp_path}/train-0.parquet", *parts)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("BMP", {}), ("GIF", {}), ("PPM", {}), ("WEBP", {"lossless": True}), ("JPEG", {})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_formats_give_their_pixels(tmp_path: Path, kind: str, options: Any) -> None:
    values = [np.full((6, 5, 3), 40 * row, np.uint8) for row in range(6)]
    images = [encoded_as(kind, value, **options) for value in values]
    splits = load(write_parquet(tmp_path, rows(images)))
    assert images_in(splits) == expected(values, [0, 1] * 3)


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "thumbs.db", "desktop.ini"])
def test_what_a_system_leaves_beside_images_is_skipped(tmp_path: Path, name: str) -> None:
    classes = {"a": encoded(4), "b": encoded(4)}
    dataset = write_folder(tmp_path, classes, classes)
    (tmp_path / "train" / "a" / name).write_bytes(b"no image")
    assert describe(dataset) == (Input(channels=3, height=6, width=5), 2)
    assert len(load(dataset).test) == 8


def test_a_text_beside_images_is_named(tmp_path: Path) -> None:
    """It may be an image of a format that is not read, and none is left out in silence."""
    classes = {"a": encoded(4), "b": encoded(4)}
    dataset = write_folder(tmp_path, classes, classes)
    (tmp_path / "test" / "b" / "notes.txt").write_text("about the images")
    refused(dataset, "test/b/notes.txt is damaged or no image")


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damage_behind_the_header(tmp_path: Path, damage: str) -> None:
    images = encoded(8)
    middle = len(images[3]) // 2
    flipped = images[3][:middle] + b"\x00\xff\x00\xff" + images[3][middle + 4 :]
    images[3] = images[3][:middle] if damage == "cut" else flipped
    dataset = write_parquet(tmp_path, rows(images))
    refused(dataset, "train-0.parquet, row 3 is damaged", described=False)


@pytest.mark.parametrize("part", ["train", "test"])
def test_folder_of_one_split(tmp_path: Path, part: str) -> None:
    classes = {"a": encoded(4), "b": encoded(4)}
    dataset = write_folder(tmp_path, classes, classes)
    (tmp_path / part).rename(tmp_path / "other")
    refused(dataset, f"no folder {part} in {tmp_path}")


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ({"a": [b""], "b": [b""]}, {"a": [b""]}, "the class b is in {root}/train alone"),
        ({"a": [b""]}, {"a": [b""], "c": [b""]}, "the class c is in {root}/test alone"),
        ({"a": [b""], "b": []}, {"a": [b""], "b": [b""]}, "no images in {root}/train/b"),
        ({"a": encoded(4)}, {"a": encoded(1)}, "the training labels of {root} are 0"),
        (
            {"a": [b"text"], "b": encoded(4)},
            {"a": encoded(1), "b": encoded(1)},
            "{root}/train/a/0.png is damaged or no image",
        ),
        (
            {"a": encoded(4), "b": [png(pixels(0, (7, 7, 3)))]},
            {"a": encoded(1), "b": encoded(1)},
            "{root}/train/b/0.png has 7 x 7 pixels",
        ),
    ],
)
def test_class_folders_that_are_refused(
    tmp_path: Path, train: dict[str, list[bytes]], test: dict[str, list[bytes]], message: str
) -> None:
    refused(write_folder(tmp_path, train, test), message.format(root=tmp_path))


def test_folders_without_classes(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    dataset = Dataset(name="folder", root=str(tmp_path))
    refused(dataset, f"no class folders in {tmp_path}/train")


def test_a_folder_where_an_image_should_be(tmp_path: Path) -> None:
    classes = {"a": encoded(4), "b": encoded(4)}
    dataset = write_folder(tmp_path, classes, classes)
    (tmp_path / "train" / "a" / "more").mkdir()
    refused(dataset, "train/a/more is damaged or no image")


def test_cifar10_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small batches in torchvision's layout, with their own checksums."""
    cifar10 = pytest.importorskip("torchvision.datasets").CIFAR10
    folder = tmp_path / "data" / cifar10.base_folder
    folder.mkdir(parents=True)
    values = pixels(0, (40, 3 * 32 * 32))

    def write(name: str, content: dict[str, Any]) -> str:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    batch = {"data": values, "labels": [row % 10 for row in range(40)]}
    md5 = write("data_batch_1", batch)
    monkeypatch.setattr(cifar10, "train_list", [["data_batch_1", md5]])
    monkeypatch.setattr(cifar10, "test_list", [["test_batch", write("test_batch", batch)]])
    names = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(cifar10, "meta", cifar10.meta | {"md5": names})

    monkeypatch.chdir(tmp_path)
    dataset = Dataset(name="cifar10", validation=10)
    splits = load(dataset)
    assert splits.names == tuple("abcdefghij")
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [30, 10, 40]
    assert splits.input == Input(channels=3, height=32, width=32)
    assert np.array_equal(splits.test.images.numpy().reshape(40, -1), values)
    assert splits.test.labels.tolist() == batch["labels"]
    assert np.array_equal(example(dataset, splits), splits.test.images[:10])


def test_a_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download itself is replaced; what torchvision checks before it is not."""
    cifar = pytest.importorskip("torchvision.datasets.cifar")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(cifar, "download_and_extract_archive", fail)
    dataset = Dataset(name="cifar10", root=str(tmp_path))
    message = f"CIFAR-10 is not in {tmp_path} and its download failed (no route to host)"
    refused(dataset, message, described=False)
