"""Soft targets of views: made once, and as good as a teacher that computes along."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from micronet_search import shipped
from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Images, Normalization, Splits
from micronet_search.data.views import VIEWS
from micronet_search.engine.work import Crashed, Ended, Job, Reached, Trained, work
from micronet_search.store import checkpoint
from micronet_search.store.checkpoint import DamagedCheckpointError
from micronet_search.store.outcome import Result
from micronet_search.training.fit import DivergenceError, SoftTargets
from micronet_search.trial import views
from micronet_search.trial.trial import Trial
from micronet_search.trial.views import Viewing

CPU = torch.device("cpu")
COUNT, CLASSES = 40, 3
NETWORK = {"family": "resnet", "stem": {"width": 4}, "widths": [4, 6], "layers": 1}
LEARNS = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01}


@functools.cache
def noise() -> Splits:
    generator = torch.Generator().manual_seed(0)

    def images() -> Images:
        pixels = torch.randint(0, 256, (COUNT, 1, 6, 6), generator=generator).byte()
        return Images(pixels, torch.arange(COUNT) % CLASSES)

    return Splits(images(), images(), images(), CLASSES, Normalization(120, 0.01))


def candidate(cached: bool | None = None, crop: int = 2, flip: bool = True) -> Candidate:
    """A student with its soft targets cached or not, or a network without a teacher."""
    tree: dict[str, Any] = {
        "input": noise().input.model_dump(),
        "classes": CLASSES,
        "network": NETWORK,
        "training": LEARNS | {"augmentation": {"crop": crop, "flip": flip}},
    }
    if cached is not None:
        taught = {"teacher": {"study": "school", "trial": 0}, "cached": cached}
        tree |= {"distillation": taught, "pruning": {"sparsity": 0.5, "epochs": 1}}
    return Candidate.model_validate(tree)


@functools.cache
def teacher() -> bytes:
    trial = Trial(candidate(), noise(), seed=1, device=CPU)
    trial.begin()
    trial.advance(2)
    return trial.finish().files["model.safetensors"]


def made(*pauses: int) -> Result:
    """What a job leaves that is broken off and goes on from its checkpoint at these views."""
    viewing = Viewing(teacher(), noise(), CPU)
    viewing.begin()
    for pause in pauses:
        viewing.advance(pause)
        content = viewing.checkpoint()
        viewing = Viewing(teacher(), noise(), CPU)
        viewing.begin(content)
    viewing.advance(VIEWS)
    return viewing.finish()


@functools.cache
def cached() -> bytes:
    return made().files["views.safetensors"]


def student(asked: Candidate, content: bytes, *pauses: int) -> tuple[Trial, Result]:
    trial = Trial(asked, noise(), seed=0, device=CPU, teacher=content)
    trial.begin()
    for pause in pauses:
        trial.advance(pause)
        saved = trial.checkpoint()
        trial = Trial(asked, noise(), seed=0, device=CPU, teacher=content)
        trial.begin(saved)
    trial.advance(trial.epochs)
    return trial, trial.finish()


@contextmanager
def counted() -> Iterator[list[int]]:
    """The numbers of images that a shipped network is given."""
    found: list[int] = []

    def count(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(module, shipped.Shipped):
            found.append(len(given[0]))

    hook = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield found
    finally:
        hook.remove()


def by_hand(number: int) -> Tensor:
    """A view of each image, float32 logits, cut out pixel by pixel."""
    mirrored, (down, right) = number >= 25, divmod(number % 25, 5)
    seen = torch.full_like(noise().train.images, 120)
    for y in range(6):
        for x in range(6):
            row, column = y + down - 2, x + right - 2
            if 0 <= row < 6 and 0 <= column < 6:
                place = 5 - x if mirrored else x
                seen[:, :, y, place] = noise().train.images[:, :, row, column]
    with torch.no_grad():
        logits: Tensor = shipped.unpack(teacher())(seen)
    return logits


def test_the_teacher_computes_each_view_of_each_image_once() -> None:
    with counted() as seen:
        content = made().files["views.safetensors"]
    assert sum(seen) == VIEWS * COUNT
    logits = views.unpack(content, COUNT, CLASSES)
    assert (logits.shape, logits.dtype) == ((50, COUNT, CLASSES), torch.float16)
    for number in range(VIEWS):
        torch.testing.assert_close(logits[number].float(), by_hand(number), rtol=1e-3, atol=1e-3)
    with counted() as seen:
        student(candidate(cached=True), content)
    assert seen == []


def test_the_curve_has_the_teachers_accuracy_on_each_view() -> None:
    curve = made().outcome.curve
    assert [row.epoch for row in curve] == list(range(1, VIEWS + 1))
    for number in (0, 12, 31):
        right = by_hand(number).argmax(1) == noise().train.labels
        assert curve[number].accuracy == pytest.approx(int(right.sum()) / COUNT)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [0, 1, 2])
def test_the_loss_is_that_of_a_teacher_that_computes_along(crop: int, flip: bool) -> None:
    """On every batch of an epoch, up to half precision."""
    along = Trial(candidate(False, crop, flip), noise(), seed=0, device=CPU, teacher=teacher())
    looks = Trial(candidate(True, crop, flip), noise(), seed=0, device=CPU, teacher=cached())
    for trial in (along, looks):
        trial.begin()
    soft, table = along._soft_targets, looks._soft_targets
    assert isinstance(soft, SoftTargets)
    assert isinstance(table, SoftTargets)
    batches = zip(
        along.feed.training(0, True), looks.feed.training(0, True, table.of_views), strict=True
    )
    for (images, targets), (same, equal, taught) in batches:
        assert torch.equal(images, same)
        assert torch.equal(targets, equal)
        logits = torch.randn(len(images), CLASSES)
        expected = soft.loss(images, logits)
        assert table.loss(images, logits, taught).item() == pytest.approx(expected.item(), rel=2e-3)


def test_a_student_ends_as_beside_a_teacher_that_computes_along() -> None:
    (along, first), (looks, second) = (
        student(candidate(False), teacher()),
        student(candidate(True), cached()),
    )
    losses = [[row.loss for row in trial.history.curve] for trial in (along, looks)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert second.outcome.scores == first.outcome.scores  # the score knows no teacher
    assert second.outcome.totals() == first.outcome.totals()


@pytest.mark.parametrize("pauses", [(1,), (2,), (1, 2, 3)])
def test_a_break_changes_nothing(pauses: tuple[int, ...]) -> None:
    asked, name = candidate(cached=True), "model.safetensors"
    (_, broken), (_, whole) = student(asked, cached(), *pauses), student(asked, cached())
    assert broken.files[name] == whole.files[name]


@pytest.mark.parametrize("pauses", [(1,), (20, 21), (50,)])
def test_a_break_of_the_job_changes_nothing(pauses: tuple[int, ...]) -> None:
    with counted() as seen:
        assert made(*pauses).files["views.safetensors"] == cached()
    assert sum(seen) == VIEWS * COUNT


def repacked(logits: Tensor, name: str = "logits") -> bytes:
    return checkpoint.pack({name: logits}, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing", "does not agree|do not agree"),
        (repacked(torch.zeros((50, COUNT, CLASSES)).half(), "others"), "expected logits of"),
        (repacked(torch.zeros((50, COUNT, CLASSES))), "torch.float32.*expected logits of"),
        (repacked(torch.zeros((50, COUNT + 1, CLASSES)).half()), "41, 3.*expected logits of"),
        (repacked(torch.full((50, COUNT, CLASSES), torch.nan).half()), "not finite"),
    ],
)
def test_a_file_that_is_none_of_these_images_is_refused(content: bytes, message: str) -> None:
    trial = Trial(candidate(cached=True), noise(), seed=0, device=CPU, teacher=content)
    with pytest.raises(ValueError, match=message):
        trial.begin()


def test_the_checkpoint_of_another_job_is_damaged() -> None:
    trial = Trial(candidate(), noise(), seed=1, device=CPU)
    trial.begin()
    trial.advance(1)
    viewing = Viewing(teacher(), noise(), CPU)
    with pytest.raises(DamagedCheckpointError):
        viewing.begin(trial.checkpoint())


def test_outputs_beyond_half_precision_are_divergence() -> None:
    found = shipped.unpack(teacher())
    found.tensors["classifier.bias"][1] = 1e6
    loud = shipped.pack(found.candidate, found.tensors, found.normalization)
    viewing = Viewing(loud, noise(), CPU)
    viewing.begin()
    viewing.advance(VIEWS)
    with pytest.raises(DivergenceError, match="not finite in half precision"):
        viewing.finish()


def test_a_job_tells_of_views_as_of_epochs() -> None:
    job = Job(-2, candidate(cached=True), 0, (), teacher=teacher(), makes_views=True)
    conversation = work(job, noise(), CPU, lambda: False)
    events = [next(conversation)]
    while not isinstance(events[-1], Ended | Crashed):
        events.append(conversation.send("go"))
    assert isinstance(events[-1], Ended)
    assert events[-1].result.files["views.safetensors"] == cached()
    rows = [(e.row.epoch, e.epochs) for e in events if isinstance(e, Trained)]
    assert rows == [(number, VIEWS) for number in range(1, VIEWS + 1)]
    assert [e.row.epoch for e in events if isinstance(e, Reached)] == [VIEWS]
