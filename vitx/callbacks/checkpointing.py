"""Saves the run at an interval, after the last step and when it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vitx.callbacks.evaluation import Evaluation
from vitx.checkpoint.store import path_of
from vitx.checkpoint.writer import Writer
from vitx.loggers.base import Logger
from vitx.train.events import Callback, Every
from vitx.train.trainer import Trainer


class Checkpointing(Callback):
    """Has checkpoints committed and pruned. Stands last, so that it saves what others did.

    Rank 0 writes; the others only give what they have.

    In the background training goes on while they are written, and waits only for the last one.
    """

    def __init__(
        self,
        folder: Path,
        every: Every,
        *,
        keep: int,
        background: bool,
        evaluation: Evaluation,
        loggers: Sequence[Logger],
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._every, self._background = folder, every, background
        self._evaluation, self._loggers, self._say = evaluation, loggers, say
        self._writer = Writer(
            folder, keep=keep, is_due=every.due, before_commit=self._make_rows_durable, say=say
        )

    def at_boundary(self, trainer: Trainer) -> None:
        """Save where it is due; at the end wait until it is committed."""
        self._writer.report()
        step = trainer.state.step
        # The best step is saved whenever it is found: it is what `checkpoint=best` promises.
        if self._every.due(step) or (step > 0 and step == self._evaluation.best_step):
            self._save(trainer)
        if step == trainer.plan.total_steps:
            self._writer.finish()

    def on_stop(self, trainer: Trainer) -> None:
        """Save where the run stands, and say so when it is committed."""
        if trainer.state.step > 0:
            self._save(trainer)
            self._writer.finish()
            self._say(f"saved {path_of(self._folder, trainer.state.step)}")

    def close(self) -> None:
        """End the thread that writes, after what it has in hand."""
        self._writer.close()

    def settle(self) -> None:
        """Wait until what was saved is there."""
        self._writer.wait()

    def _save(self, trainer: Trainer) -> None:
        snapshot = trainer.snapshot()  # by all ranks together
        if not trainer.world.leads:
            return
        self._writer.hand_over(snapshot, best_step=self._evaluation.best_step)
        if not self._background:
            self._writer.wait()

    def _make_rows_durable(self) -> None:
        for logger in self._loggers:
            logger.flush()
