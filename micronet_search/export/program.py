"""A shipped network as a program of `torch.export`, which PyTorch loads without this package."""

import io
import logging
import warnings

import torch

from micronet_search.data.splits import Images
from micronet_search.export import check
from micronet_search.shipped import Shipped

CHECKED = 250
"""Test images on which the program is compared with the network."""


def write(shipped: Shipped, split: Images) -> bytes:
    """Returns the file of a network, from uint8 images (N, C, H, W) to float32 logits (N, classes).

    N is any number above 0. The program computes what the PyTorch network does, with fake
    quantization in single precision.

    Args:
        shipped: The network.
        split: Images on which the two are compared.

    Raises:
        ExportError: The two predict too many images otherwise.
    """
    images = split.images[:CHECKED].cpu()
    example = images[:2].clone()  # it is saved too, with all that its memory holds
    batch = {0: torch.export.Dim("N", min=1)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on PyTorch's own deprecated parts
        logging.getLogger("torch.export").setLevel(logging.ERROR)
        program = torch.export.export(shipped, (example,), dynamic_shapes=(batch,), strict=False)
        written = io.BytesIO()
        torch.export.save(program, written)
        found, expected = (network(images) for network in (program.module(), shipped))
    differing = int((found.argmax(1) != expected.argmax(1)).sum())
    check.require_agreement("the program", differing, len(images))
    return written.getvalue()
