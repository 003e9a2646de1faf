"""Batches in any number of processes, and what happens when one of those dies."""

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

import vitx.data.loader
from vitx.config.schema import AugmentationConfig
from vitx.data.augment import PictureFormat, build_train_transform
from vitx.data.images import LabelledImages
from vitx.data.loader import TrainStream, choose_workers
from vitx.data.mixing import Mixing
from vitx.data.sampler import MicroBatchSampler
from vitx.data.samples import BadImagePolicy, Decoder, TrainSamples
from vitx.errors import DataError
from vitx.records import Plan

CPU = torch.device("cpu")
EVERYTHING = AugmentationConfig(
    auto_augment="rand-m9-mstd0.5-inc1", erase_prob=0.5, repeats=3, mixup=0.8, cutmix=1.0
)
PLAN = Plan(steps_per_epoch=4, total_steps=8, batch_size=6, micro_batch=2)


@pytest.fixture(autouse=True)
def no_process_left():
    yield
    for worker in multiprocessing.active_children():
        # torch's own handler complains of the death of a worker that it still knows.
        with contextlib.suppress(RuntimeError):
            worker.kill()
            worker.join()


@pytest.fixture
def stream(table, picture):
    """stream(workers=2, bad={3}) over 27 pictures, as a run opens it."""
    opened = []

    def make(
        *,
        workers=0,
        start=0,
        bad=frozenset(),
        limit=None,
        transform=None,
        config=EVERYTHING,
        plan=PLAN,
        channels_last=False,
    ):
        pictures = [b"junk" if row in bad else picture(row * 9) for row in range(27)]
        labels = np.arange(27) % 3
        data = table(labels.tolist(), pictures=pictures)
        images = LabelledImages(name="train", data=data, image_column="image", labels=labels)
        plain = PictureFormat(image_px=8, mean=(0.5,) * 3, std=(0.5,) * 3)
        chain = transform or build_train_transform(config, plain, mirror=True)
        decoder = Decoder(images=images, channels=3, max_pixels=100)
        bad_rows = set()
        opened.append(
            TrainStream(
                TrainSamples(decoder, chain, seed=0),
                MicroBatchSampler(
                    plan, samples=27, seed=0, repeats=config.repeats, start_step=start
                ),
                Mixing(config, num_classes=3, seed=0),
                device=CPU,
                workers=workers,
                channels_last=channels_last,
                bad_images=BadImagePolicy(images=images, skip=limit is not None, limit=limit or 0),
                bad_rows=bad_rows,
            )
        )
        return opened[-1], bad_rows

    yield make
    for each in opened:
        with contextlib.suppress(RuntimeError):
            each.close()


def drawn(stream, *, start=0, plan=PLAN):
    """Return all there is of every batch from a step on, as bytes."""
    found = []
    for step in range(start, plan.total_steps):
        for micro in range(plan.accumulation):
            batch = stream.next(step, micro)
            parts = (batch.images, batch.targets, batch.indices)
            found.append(tuple(part.numpy().tobytes() for part in parts))
    return found


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_processes_change_nothing(stream, workers):
    alone = drawn(stream()[0])
    torch.manual_seed(workers)
    assert drawn(stream(workers=workers)[0]) == alone
    assert len(set(alone)) == len(alone) == 24


@pytest.mark.parametrize("workers", [0, 2])
def test_from_a_later_step_on_it_is_the_same_stream(stream, workers):
    whole = drawn(stream()[0])
    for start in (1, 4, 7):
        later, _ = stream(workers=workers, start=start)
        assert drawn(later, start=start) == whole[start * 3 :]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_skipped_pictures_are_the_same_in_any_number_of_processes(stream, workers):
    config = AugmentationConfig(erase_prob=0.5)
    options = {"bad": {3, 11, 20}, "limit": 3, "config": config}
    alone, skipped_alone = stream(**options)
    found, skipped = stream(**options, workers=workers)
    assert drawn(found) == drawn(alone)
    assert skipped == skipped_alone
    assert skipped <= {3, 11, 20}
    whole, _ = stream(config=config)
    assert drawn(whole) != drawn(stream(**options)[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_picture_ends_the_run_in_one_line(stream, workers):
    broken, _ = stream(workers=workers, bad=set(range(27)))
    with pytest.raises(DataError) as caught:
        drawn(broken)
    line = str(caught.value)
    assert line.startswith("train row ")
    assert "can't be decoded: no readable JPEG, PNG, WebP or BMP (it begins 6a 75 6e 6b)" in line
    assert "\n" not in line


@pytest.mark.parametrize("workers", [0, 1])
def test_more_bad_pictures_than_allowed(stream, workers):
    broken, skipped = stream(workers=workers, bad=set(range(9)), limit=4)
    with pytest.raises(DataError, match=r"^\d pictures of train can't be decoded, more than the 4"):
        drawn(broken)
    assert len(skipped) > 4
    assert skipped <= set(range(9))


def test_nothing_but_bad_pictures(stream):
    with pytest.raises(DataError, match="can't be decoded"):
        drawn(stream(bad=set(range(27)), limit=1000)[0])


def test_memory_order(stream):
    batch = stream(channels_last=True)[0].next(0, 0)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.images.shape == (2, 3, 8, 8)
    assert batch.targets.shape == (2, 3)


def endless(stream):
    """Return a stream of one process that is far from its end, and that process."""
    long = Plan(steps_per_epoch=4, total_steps=4000, batch_size=6, micro_batch=2)
    running, _ = stream(workers=1, plan=long)
    running.next(0, 0)
    (worker,) = multiprocessing.active_children()
    return running, worker


def run_into_it(stream):
    for number in range(1, 2000):
        stream.next(number // 3, number % 3)


class Drops:
    """What it raises in its destructor, Python drops."""

    def __init__(self, worker):
        self.worker = worker

    def __del__(self):
        os.kill(self.worker.pid, signal.SIGKILL)
        self.worker.join(10)


@pytest.mark.parametrize("where", ["between batches", "while waiting", "in a destructor"])
def test_a_killed_process_is_a_data_error_and_no_hang(stream, where):
    running, worker = endless(stream)
    started = time.monotonic()
    if where == "while waiting":
        os.kill(worker.pid, signal.SIGSTOP)
        killing = threading.Timer(1.5, os.kill, (worker.pid, signal.SIGKILL))
        killing.start()
    elif where == "between batches":
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(10)  # nothing is raised before the next batch is asked for
    else:
        Drops(worker)
    with pytest.raises(DataError) as caught:
        run_into_it(running)
    assert time.monotonic() - started < 20
    line = str(caught.value)
    assert line.startswith("a loader process ended")
    assert "dataset.workers=0" in line
    assert "\n" not in line


def test_a_process_that_hangs_is_a_data_error(stream, monkeypatch):
    monkeypatch.setattr(vitx.data.loader, "WORKER_TIMEOUT_S", 1)
    hung, _ = stream(workers=1, transform=sleep_for_ever)
    with pytest.raises(DataError, match="a loader process ended or hung: silent for 1 s"):
        hung.next(0, 0)
    assert not multiprocessing.active_children()
    hung.close()


def test_a_process_that_stands_still_with_a_batch_half_sent(stream, monkeypatch):
    monkeypatch.setattr(vitx.data.loader, "WORKER_TIMEOUT_S", 1)
    running, worker = endless(stream)
    time.sleep(0.5)  # the next batches wait in the pipe, their pictures at a socket of the process
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(DataError, match="a loader process ended or hung: silent for 1 s"):
        run_into_it(running)
    running.close()
    worker.join(10)
    assert not worker.is_alive()


def test_signals_for_the_group_are_left_to_the_parent(stream):
    running, worker = endless(stream)
    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGTERM)
    for number in range(1, 30):
        running.next(number // 3, number % 3)
    assert worker.is_alive()


def test_close_ends_the_processes(stream):
    running, worker = endless(stream)
    running.close()
    worker.join(10)
    assert not worker.is_alive()
    running.close()


def sleep_for_ever(_):
    time.sleep(1e6)


def raise_runtime_error(_):
    raise RuntimeError("the transform is wrong")


def test_a_mistake_in_a_process_is_not_taken_for_its_death(stream):
    broken, _ = stream(workers=1, transform=raise_runtime_error)
    with pytest.raises(RuntimeError, match="the transform is wrong"):
        broken.next(0, 0)


def test_closing_does_not_hide_why(stream):
    """An error is under way, and its traceback holds the loader's own objects."""
    broken, _ = stream(workers=1, transform=raise_runtime_error)
    try:
        broken.next(0, 0)
    except RuntimeError:
        (worker,) = multiprocessing.active_children()
        broken.close()
        gc.collect()
    assert not worker.is_alive()


def test_how_many_processes():
    assert choose_workers(3, CPU) == 3
    assert choose_workers(0, torch.device("cuda")) == 0
    assert choose_workers(None, CPU) == 1
    assert 1 <= choose_workers(None, torch.device("cuda")) <= 8
