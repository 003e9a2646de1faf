"""Ends a session of training at a chosen step, to be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from vitx.runtime.signals import StopRequest
from vitx.train.events import Callback
from vitx.train.trainer import Trainer


class StopAt(Callback):
    """Asks to stop once a step is done, as a signal at that moment would."""

    def __init__(self, step: int, stop: StopRequest, *, reason: str) -> None:
        self._step, self._stop, self._reason = step, stop, reason

    def on_step(self, trainer: Trainer, terms: Mapping[str, Sequence[Tensor]]) -> None:
        """Ask to stop at the step."""
        if trainer.state.step == self._step and self._step < trainer.plan.total_steps:
            self._stop.ask(self._reason)
