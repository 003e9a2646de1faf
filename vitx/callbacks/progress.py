"""Moves the progress bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from vitx.loggers.console import ProgressLogger
from vitx.train.events import Callback
from vitx.train.trainer import Trainer


class ShowProgress(Callback):
    """Tells the display of every step."""

    def __init__(self, display: ProgressLogger) -> None:
        self._display = display

    def on_step(self, trainer: Trainer, terms: Mapping[str, Sequence[Tensor]]) -> None:
        """Move the bar."""
        self._display.advance(trainer.state.step)
