"""What the trainer tells its callbacks, and how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitx.records import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from vitx.train.trainer import Trainer


class Callback:
    """Something that happens around training steps. All methods may be left out.

    The callbacks of a trainer are told in their order. What `at_boundary` does has to be
    repeatable: after an interruption it is called again for the step the run stands at, and must
    then do only what it had not finished.
    """

    name = ""

    def before_update(
        self, trainer: Trainer, norm: Tensor, terms: Mapping[str, Sequence[Tensor]]
    ) -> bool:
        """Gradients are ready, their global norm is `norm`; weights are not changed yet.

        Returns:
            Whether they may be. One callback that says no is enough, on all ranks alike.
        """
        return True

    def on_step(self, trainer: Trainer, terms: Mapping[str, Sequence[Tensor]]) -> None:
        """A step is done; `terms` are the losses of this rank's passes, on the device."""

    def at_boundary(self, trainer: Trainer) -> None:
        """Between steps: the place for all that is periodic."""

    def on_stop(self, trainer: Trainer) -> None:
        """Training was asked to stop and ends here, to be resumed."""

    def close(self) -> None:
        """Training is over, however it ended: let go of threads and files."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to survive an interruption, as plain data."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


class Every:
    """An interval of steps that also falls on the last step."""

    def __init__(self, text: str, plan: Plan, *, setting: str) -> None:
        self._interval = max(1, plan.steps_in(text, setting=setting))
        self._last = plan.total_steps

    def due(self, step: int) -> bool:
        """Say whether it is time after `step` steps."""
        return step > 0 and (step % self._interval == 0 or step == self._last)

    def down_from(self, step: int) -> range:
        """Return the steps up to `step` after which it was time, newest first."""
        return range(step // self._interval * self._interval, 0, -self._interval)
