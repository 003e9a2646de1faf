"""Collects what steps and evaluations measure and hands it to the loggers, one row a step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vitx.callbacks.evaluation import Evaluation
from vitx.files import restored_floats, strict_floats
from vitx.loggers.base import Logger
from vitx.runtime.world import ALONE, World
from vitx.train.events import Callback, Every
from vitx.train.trainer import Trainer


class Metrics(Callback):
    """Writes a row at an interval and wherever there was an evaluation.

    Training values are means over the forward passes of all ranks since the last row, summed
    exactly, so that neither their order nor who did them matters. Until a row is due they stay on
    the device of their rank: nothing waits for them.
    """

    name = "metrics"

    def __init__(
        self,
        loggers: Sequence[Logger],
        every: Every,
        evaluation: Evaluation,
        world: World = ALONE,
    ) -> None:
        self._loggers, self._every, self._evaluation = loggers, every, evaluation
        self._world = world
        self._pending: dict[str, list[Tensor | float]] = defaultdict(list)
        self._row_step = 0
        # Samples, seconds, seconds waited and seconds spent on sums at the last row.
        self._mark = (0, 0.0, 0.0, 0.0)

    def on_step(self, trainer: Trainer, terms: Mapping[str, Sequence[Tensor]]) -> None:
        """Keep the terms of a step."""
        for name, values in terms.items():
            self._pending[name] += [value.detach() for value in values]

    def at_boundary(self, trainer: Trainer) -> None:
        """Write the row of this step where one is due and not written yet."""
        step = trainer.state.step
        evaluated = self._evaluation.row(step)
        if step == self._row_step or not (self._every.due(step) or evaluated):
            return
        pending = self._gathered()
        row: dict[str, Any] = {
            "step": step,
            "epoch": trainer.epoch,
            "samples": trainer.state.samples,
            "seconds": trainer.state.seconds,
            **{f"train/{name}": _mean(values) for name, values in pending.items()},
            "train/lr": trainer.schedule.peak_now(),
            **self._speed(trainer),
            **evaluated,
        }
        self._pending.clear()
        self._row_step = step
        for logger in self._loggers:
            logger.log(row)

    def state_dict(self) -> dict[str, Any]:
        """Return the values that wait for their row, those of all ranks."""
        return {
            "pending": self._gathered(),
            "row_step": self._row_step,
            "mark": list(self._mark[:2]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take those values over; rank 0 does, and the others begin with none."""
        pending = state["pending"] if self._world.leads else {}
        self._pending = defaultdict(list, pending)
        self._row_step = state["row_step"]
        samples, seconds = state["mark"]
        self._mark = (samples, seconds, 0.0, 0.0)

    def _gathered(self) -> dict[str, list[float]]:
        own = {name: _floats(values) for name, values in self._pending.items()}
        ranks = self._world.gather(strict_floats(own))
        together: dict[str, list[float]] = defaultdict(list)
        for each in restored_floats(ranks):
            for name, values in each.items():
                together[name] += values
        return dict(together)

    def _speed(self, trainer: Trainer) -> dict[str, float]:
        waited = trainer.stream.wait_s if trainer.stream else 0.0
        summed = trainer.gradients.spent_s
        samples, seconds, waited_before, summed_before = self._mark
        self._mark = (trainer.state.samples, trainer.state.seconds, waited, summed)
        spent = trainer.state.seconds - seconds
        if spent <= 0:
            return {}
        speed = {
            "train/images_per_second": (trainer.state.samples - samples) / spent,
            "train/data_wait": (waited - waited_before) / spent,
        }
        if summed:
            speed["train/exact_sums"] = (summed - summed_before) / spent
        return speed


def _floats(values: list[Tensor | float]) -> list[float]:
    if not values:
        return []
    on_device = [value for value in values if isinstance(value, Tensor)]
    # One transfer for all of them.
    known = iter(torch.stack(on_device).tolist() if on_device else [])
    return [next(known) if isinstance(value, Tensor) else value for value in values]


def _mean(values: Sequence[float]) -> float:
    if all(map(math.isfinite, values)):
        return math.fsum(values) / len(values)
    return sum(values) / len(values)
