"""The files of cached soft targets: whether the images allow one, and whether one is whole."""

from pathlib import Path

from micronet_search.config.loading import read_bytes
from micronet_search.data.splits import Fingerprint
from micronet_search.data.views import VIEWS
from micronet_search.store.checkpoint import MAX_HEADER
from micronet_search.trial import views


def too_large(images: Fingerprint) -> str | None:
    """Returns why these training images have no cached soft targets; None if they can."""
    size = views.size(*_shape(images))
    if size <= views.MAX_BYTES:
        return None
    return (
        f"distillation.cached: found {size:,} bytes of soft targets for {VIEWS} views of each "
        f"training image, expected at most {views.MAX_BYTES:,}"
    )


def are_whole(path: Path, images: Fingerprint) -> bool:
    """Returns whether a file exists and holds soft targets for these training images."""
    if not path.exists():
        return False
    shape = _shape(images)
    try:
        views.unpack(read_bytes(path, views.size(*shape) + MAX_HEADER), *shape)
    except ValueError:
        return False
    return True


def _shape(images: Fingerprint) -> tuple[int, int]:
    """Returns how many images and classes there are."""
    return sum(images.sizes), len(images.sizes)
