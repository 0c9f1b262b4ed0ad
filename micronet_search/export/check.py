"""Whether the ONNX file predicts what the PyTorch network does."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from micronet_search.data.splits import Images
from micronet_search.runtime import ExportError
from micronet_search.runtime.session import run, start
from micronet_search.training.fit import predictions

TOLERANCE = 0.001  # the share of the images on which the two may differ
_ERRORS, _GAP = 4.0, 0.03


@dataclass(frozen=True)
class Agreement:
    """How an ONNX file and a PyTorch network compare on the images of one split.

    The two predict different classes for the `differing` images. Accuracies are 0 to 1.
    """

    images: int
    differing: int
    onnx_accuracy: float
    torch_accuracy: float


def require_agreement(what: str, differing: int, images: int) -> None:
    """Raises ExportError where more images are predicted otherwise than may; one may in any case.

    `what` is compared with PyTorch on that many images.
    """
    allowed = max(1, int(TOLERANCE * images))
    if differing > allowed:
        raise ExportError(
            f"{what} and PyTorch predict {differing} of {images} test images differently, expected "
            f"at most {allowed}; nothing was exported"
        )


def compare(content: bytes, network: nn.Module, split: Images, batch: int = 250) -> Agreement:
    """Runs an ONNX file, and a network from uint8 images to logits, on a whole split on the CPU.

    Raises:
        ExportError: The file does not run, or predicts too many images otherwise.
    """
    images, labels = split.images.cpu(), split.labels.cpu()
    expected = predictions(network, images.split(batch))
    session = start(content)
    found = torch.cat([run(session, part).argmax(1) for part in images.split(batch)])
    differing = int((found != expected).sum())
    require_agreement("ONNX Runtime", differing, len(labels))
    return Agreement(
        images=len(labels),
        differing=differing,
        onnx_accuracy=(found == labels).double().mean().item(),
        torch_accuracy=(expected == labels).double().mean().item(),
    )


def doubt(agreement: Agreement, validation: float, judged: int) -> str | None:
    """Returns a clause if the test accuracy is further from the validation accuracy than expected.

    The two may differ by chance, up to four standard errors of the difference of two shares, and by
    three points more, because the search chose the network by its validation accuracy, which is
    that of the `judged` images.
    """
    test, images = agreement.onnx_accuracy, agreement.images
    share = (test * images + validation * judged) / (images + judged)
    error = math.sqrt(share * (1.0 - share) * (1.0 / images + 1.0 / judged))
    if abs(test - validation) <= _ERRORS * error + _GAP:
        return None
    return (
        f"the test accuracy of {test:.2%} is far from the validation accuracy of {validation:.2%}: "
        "the dataset may have changed since the training, or its test images be of another kind"
    )
