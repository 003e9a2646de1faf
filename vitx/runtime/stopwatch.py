"""Seconds that a device computes for something, added up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Runs while it is entered. On a GPU nobody waits for its end then.

    A GPU takes what it computes, or what it costs to tell it what to, whichever is longer.

    Args:
        device: what computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds = 0.0
        self._pending: list[tuple[torch.cuda.Event, torch.cuda.Event, float]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add what is computed meanwhile."""
        started = time.perf_counter()
        if not self._on_gpu:
            yield
            self._seconds += time.perf_counter() - started
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._pending.append((begin, end, time.perf_counter() - started))

    @property
    def seconds(self) -> float:
        """Seconds so far; a GPU is waited for."""
        if self._pending:
            self._pending[-1][1].synchronize()
            self._seconds += sum(
                max(told_s, begin.elapsed_time(end) / 1000) for begin, end, told_s in self._pending
            )
            self._pending.clear()
        return self._seconds
