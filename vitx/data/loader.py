"""Loader processes, and the way of a batch to the model's device."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.process
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from vitx.data.mixing import Mixing
from vitx.data.sampler import MicroBatchSampler
from vitx.data.samples import BadImagePolicy, EvalSamples, RawBatch, TrainSamples
from vitx.data.sharing import collate_shared, end_where_sending_fails, shortage
from vitx.data.watchdog import Watchdog
from vitx.errors import DataError
from vitx.records import Batch, Place
from vitx.runtime.device import usable_cores
from vitx.runtime.signals import end_with_parent

# A worker that says nothing for this long is taken for hung; whether one died is asked more often.
WORKER_TIMEOUT_S = 120.0
WORKER_POLL_S = 1.0


def choose_workers(wanted: int | None, device: torch.device) -> int:
    """Settle the number of loader processes; training on the CPU leaves the cores to the model."""
    if wanted is not None:
        return wanted
    return 1 if device.type == "cpu" else min(8, usable_cores())


class TrainStream:
    """Batches of a run, on the device and mixed, from one step on.

    Attributes:
        wait_s: seconds spent waiting for data so far.
    """

    def __init__(
        self,
        samples: TrainSamples,
        sampler: MicroBatchSampler,
        mixing: Mixing,
        *,
        device: torch.device,
        workers: int,
        channels_last: bool,
        bad_images: BadImagePolicy,
        bad_rows: set[int],
    ) -> None:
        self._mixing, self._device, self._plan = mixing, device, sampler.plan
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._bad_images, self._bad_rows = bad_images, bad_rows
        self._loading = Loading(samples, batch_sampler=sampler, workers=workers, device=device)
        self.wait_s = 0.0

    def next(self, step: int, micro: int) -> Batch:
        """Return forward pass `micro` of optimizer step `step`; the caller asks in order.

        Args:
            step: optimizer step, from 0.
            micro: forward pass of the step, from 0.

        Returns:
            The batch, mixed, on the device.

        Raises:
            DataError: a loader process died or hung, or too many pictures are bad.
            IndexError: the run has no such step.
        """
        started = time.perf_counter()
        raw = self._loading.next()
        if raw is None:
            raise IndexError(f"the run has no step {step}")
        self._bad_images.check(raw.bad, self._bad_rows)
        plan, data_step = self._plan, self._plan.data_step(step)
        if len(raw.labels) < plan.micro_batch:
            raise DataError("too many pictures in a row can't be decoded")
        images = raw.images.to(self._device, memory_format=self._format, non_blocking=True)
        labels = raw.labels.to(self._device, non_blocking=True)
        epoch, step_in_epoch = divmod(data_step, plan.steps_per_epoch)
        first = step_in_epoch * plan.batch_size + micro * plan.micro_batch
        place = Place(step=step, epoch=epoch, first=first)
        batch = Batch(images=images, targets=labels, indices=raw.indices, place=place)
        batch = self._mixing(batch, data_step, micro)
        self.wait_s += time.perf_counter() - started
        return batch

    def close(self) -> None:
        """End the loader processes."""
        self._loading.close()


class Loading:
    """One pass over samples by loader processes, which end with it, however it ends."""

    def __init__(
        self,
        samples: TrainSamples | EvalSamples,
        *,
        workers: int,
        device: torch.device,
        **how: Any,
    ) -> None:
        self._closing = multiprocessing.RawValue("b", 0)
        self._lack = multiprocessing.RawValue("i", 0)
        self._has_workers = workers > 0
        self._loader: Callable[[], DataLoader[Any]] = partial(
            DataLoader,
            samples,
            num_workers=workers,
            collate_fn=collate_shared,
            pin_memory=device.type == "cuda",
            timeout=WORKER_POLL_S if workers else 0,
            worker_init_fn=partial(_begin, self._closing, self._lack) if workers else None,
            **how,
        )
        self._batches: Iterator[RawBatch] | None = None
        self._workers: set[multiprocessing.process.BaseProcess] = set()
        self._watchdog = Watchdog(WORKER_TIMEOUT_S, self._kill)

    def next(self) -> RawBatch | None:
        """Return the next batch, or None after the last.

        Raises:
            DataError: a loader process died, hung for `WORKER_TIMEOUT_S`, or lacked something.
            OSError: what went wrong in one, as it was raised there.
            RuntimeError: likewise.
        """
        try:
            return self._next()
        except (DataError, OSError, RuntimeError) as error:
            if self._has_workers and (lack := shortage(error, self._lack.value)):
                raise DataError(lack) from error
            raise

    def _next(self) -> RawBatch | None:
        if self._batches is None:
            self._batches = self._start()
        with self._watchdog if self._has_workers else nullcontext():
            return self._wait_for(self._batches)

    def _wait_for(self, batches: Iterator[RawBatch]) -> RawBatch | None:
        while True:
            try:
                return next(batches, None)
            except (ConnectionError, EOFError) as error:
                # It died while its batch was being fetched.
                raise DataError(self._ended(str(error))) from error
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                if reason.startswith("DataLoader timed out"):
                    continue  # the iterator stands where it stood
                if reason.startswith("DataLoader worker"):
                    raise DataError(self._ended(reason)) from error
                raise

    def _ended(self, reason: str) -> str:
        if self._watchdog.barked:
            reason = f"silent for {WORKER_TIMEOUT_S:.0f} s"
        return f"a loader process ended or hung: {reason}; out of memory? try dataset.workers=0"

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _start(self) -> Iterator[RawBatch]:
        others = set(multiprocessing.active_children())
        handler = signal.getsignal(signal.SIGCHLD)
        with warnings.catch_warnings():
            # More processes than cores are the user's choice.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            batches = iter(self._loader())
        # torch's own handler raises wherever the program happens to be when a process dies, be it
        # in a destructor that drops the error; here `next` finds out.
        if signal.getsignal(signal.SIGCHLD) is not handler:
            signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
        self._workers = set(multiprocessing.active_children()) - others
        # Whoever forgets to close must not make the interpreter wait for them at its end.
        atexit.register(self.close)
        return batches

    def close(self) -> None:
        """End the processes, those that hang too."""
        atexit.unregister(self.close)
        self._closing.value = 1
        self._watchdog.close()
        # An iterator that a traceback holds would not end its processes by itself, and would take
        # their end for a failure.
        shut_down = getattr(self._batches, "_shutdown_workers", None)
        self._batches = None
        if shut_down is not None:
            shut_down()
        self._kill()
        self._workers = set()

    def __enter__(self) -> Loading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _begin(closing: Any, lack: Any, _worker: int) -> None:
    _leave_signals_to_parent(closing)
    end_where_sending_fails(lack)


def _leave_signals_to_parent(closing: Any) -> None:
    # Ctrl-C, a hang-up and a scheduler's SIGTERM reach every process of a run; the parent still
    # needs the batches under way to finish its step and save.
    def end(_number: int, _frame: object) -> None:
        if closing.value:
            os._exit(0)

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
