"""Evaluation of a model whose every answer is known beforehand."""

import contextlib
import io
import math
import multiprocessing
import os
import signal
from collections.abc import Iterator

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitx.config.schema import AugmentationConfig, Crop, Precision
from vitx.data.augment import PictureFormat, build_eval_transform
from vitx.data.images import LabelledImages
from vitx.data.samples import BadImagePolicy, Decoder, EvalSamples
from vitx.errors import DataError
from vitx.evaluate.loop import EvaluationStopped, Evaluator, Judged

CLASSES = 7
KEPT: list[BaseException] = []


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    yield
    for worker in multiprocessing.active_children():
        # torch's own handler complains of the death of a worker that it still knows.
        with contextlib.suppress(RuntimeError):
            worker.kill()
            worker.join()


class Oracle(nn.Module):
    """Reads the row out of the picture's shade and says the logits written down for it."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(rows))
        self.modes: set[bool] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.modes.add(self.training)
        return self.table[(images[:, 0, 0, 0] * 255).round().long()]


def split(rows: int, bad: set[int] = frozenset()) -> LabelledImages:
    """Pictures whose shade is their row; those in `bad` hold no picture."""
    files = []
    for row in range(rows):
        file = io.BytesIO()
        Image.new("L", (3, 3), row).save(file, "PNG")
        files.append(b"no picture" if row in bad else file.getvalue())
    data = datasets.Dataset.from_dict(
        {"image": [{"bytes": file, "path": None} for file in files]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    labels = np.random.default_rng(rows).integers(0, CLASSES, rows)
    return LabelledImages(name="val", data=data, image_column="image", labels=labels)


def evaluator(
    images: LabelledImages,
    *,
    batch_size: int = 5,
    workers: int = 0,
    limit: int | None = None,
    precision: Precision = Precision.fp32,
) -> Evaluator:
    plain = PictureFormat(image_px=3, mean=(0.0,), std=(1.0,))
    augmentation = AugmentationConfig(crop=Crop.resize, eval_crop_ratio=1.0)
    decoder = Decoder(images=images, channels=1, max_pixels=100)
    return Evaluator(
        EvalSamples(decoder, build_eval_transform(augmentation, plain)),
        batch_size=batch_size,
        workers=workers,
        device=torch.device("cpu"),
        precision=precision,
        channels_last=False,
        bad_images=BadImagePolicy(images=images, skip=limit is not None, limit=limit or 0),
    )


def check(found: Judged, model: Oracle, images: LabelledImages, rows: list[int]) -> None:
    """Compare with sums in Python over the rows that there are."""
    result, samples = found.result(), found.samples
    top1, top5, loss = 0, 0, []
    for row in rows:
        logits, label = model.table[row].tolist(), int(images.labels[row])
        place = sorted(logits, reverse=True).index(logits[label])
        top1, top5 = top1 + (place < 1), top5 + (place < 5)
        loss.append(math.log(math.fsum(map(math.exp, logits))) - logits[label])
    assert (result.count, result.top1_count, result.top5_count) == (len(rows), top1, top5)
    assert result.loss_sum == pytest.approx(math.fsum(loss), rel=1e-12)
    assert samples.index.tolist() == rows
    assert samples.label.tolist() == images.labels[rows].tolist()
    assert samples.prediction.tolist() == model.table[rows].argmax(1).tolist()
    confidence = torch.softmax(model.table[rows].double(), 1).amax(1)
    assert samples.confidence.tolist() == pytest.approx(confidence.tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "batch_size", "workers"),
    [(1, 5, 0), (7, 5, 0), (23, 5, 0), (23, 23, 0), (23, 64, 1), (23, 4, 2)],
)
def test_every_sample_counts_once(rows: int, batch_size: int, workers: int) -> None:
    images, model = split(rows), Oracle(rows)
    score = evaluator(images, batch_size=batch_size, workers=workers)
    for _ in range(2):
        check(score(model), model, images, list(range(rows)))


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_pictures_are_left_out_and_counted(workers: int) -> None:
    bad = {0, 5, 6, 7, 8, 9, 22}  # one batch of five has none that is good
    images, model = split(23, bad), Oracle(23)
    found = evaluator(images, workers=workers, limit=7)(model)
    check(found, model, images, [row for row in range(23) if row not in bad])
    assert found.result().skipped == 7
    with pytest.raises(DataError) as caught:
        evaluator(images, workers=workers, limit=6)(model)
    assert str(caught.value).startswith("7 pictures of val can't be decoded, more than the 6 that")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_picture_is_named(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        evaluator(split(23, {11}), workers=workers)(Oracle(23))
    line = str(caught.value)
    assert line.startswith("val row 11 can't be decoded: no readable JPEG, PNG, WebP or BMP")
    assert "dataset.bad_image=skip" in line
    assert "\n" not in line


def test_no_good_picture_is_no_result() -> None:
    with pytest.raises(DataError, match="no picture that can be decoded"):
        evaluator(split(3, {0, 1, 2}), limit=3)(Oracle(3))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode(training: bool) -> None:
    model = Oracle(6).train(training)
    evaluator(split(6))(model)
    assert model.modes == {False}
    assert model.training is training
    with pytest.raises(DataError):
        evaluator(split(6, {5}))(model)
    assert model.training is training


@pytest.mark.parametrize("workers", [0, 1])
def test_stopped_between_batches_and_then_whole(workers: int) -> None:
    images, model = split(23), Oracle(23)
    score, polls = evaluator(images, workers=workers), iter([False, False, True])
    with pytest.raises(EvaluationStopped):
        score(model, stop=lambda: next(polls))
    check(score(model), model, images, list(range(23)))


def test_half_precision_is_scored_in_fp32() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, CLASSES))
    images = split(23)
    found = evaluator(images, precision=Precision.bf16)(model)
    result, samples = found.result(), found.samples
    pixels = torch.arange(23.0)[:, None].expand(23, 9) / 255
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        logits = model(pixels).double()
    losses = logits.exp().sum(1).log() - logits[range(23), images.labels.tolist()]
    assert result.loss_sum == pytest.approx(losses.sum().item(), rel=1e-6)
    assert samples.confidence.dtype == np.float32


def test_a_killed_worker_is_a_data_error() -> None:
    score, model = evaluator(split(200), batch_size=2, workers=1), Oracle(200)

    def kill() -> bool:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)
        return False

    with pytest.raises(DataError, match="a loader process ended"):
        score(model, stop=kill)


def test_predictions_agree_with_the_count() -> None:
    images, model = split(1), Oracle(1)
    images.labels[:] = 1
    model.table = torch.tensor([[1e-9, 2e-9, 0, 0, 0, 0, 0]])
    found = evaluator(images)(model)
    assert found.result().top1_count == 1
    assert found.samples.prediction.tolist() == [1]


def test_a_process_ends_after_a_failed_evaluation() -> None:
    process = multiprocessing.get_context("fork").Process(target=_fail)
    process.start()
    process.join(30)
    code = process.exitcode
    process.kill()
    assert code == 0


def _fail() -> None:
    torch.set_num_threads(1)
    try:
        evaluator(split(23, {11}), workers=2)(Oracle(23))
    except DataError as error:
        KEPT.append(error)  # as the command does, until it has said what went wrong
