"""Stops a run before a non-finite gradient reaches the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitx.errors import NonFiniteError
from vitx.train.events import Callback
from vitx.train.trainer import Trainer

# fp16: the loss scale halves at each overflow; so many in a row is no overflow any more.
MOST_SKIPS_IN_A_ROW = 20


class Guard(Callback):
    """Raises where the global gradient norm is NaN or infinite.

    Under fp16 a few overflows are how the loss scale finds its size; those steps are skipped by
    the scaler, and only many in a row end the run.
    """

    name = "guard"

    def __init__(self) -> None:
        self._skips = 0

    def before_update(self, trainer: Trainer, norm: Tensor) -> None:
        """Check the norm; on a GPU this waits for the backward pass."""
        if bool(torch.isfinite(norm)):
            self._skips = 0
            return
        self._skips += 1
        if not trainer.scaler.is_enabled() or self._skips >= MOST_SKIPS_IN_A_ROW:
            raise NonFiniteError(
                f"the gradient norm is {norm.item()} at step {trainer.state.step + 1}, learning "
                f"rate {trainer.schedule.peak_now():.3g}; weights and checkpoints are from before "
                "it; try a lower optimizer.lr, optimizer.clip_norm=1 or precision=fp32"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps in a row were skipped."""
        return {"skips": self._skips}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take that number over."""
        self._skips = int(state["skips"])
